"""Test files share one namespace where their folders are no packages: names must differ."""

from __future__ import annotations

from collections import Counter

from tests.shared_data import REPOSITORY


def test_no_two_test_files_have_one_name() -> None:
    names = Counter(path.name for path in (REPOSITORY / "tests").rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
