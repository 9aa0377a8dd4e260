"""Row selections: what they select, and which can never be evaluated."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_modules.faults import DataFault
from data_modules.records import Record, Reject
from data_modules.sources import RowFault
from data_modules.sources.selection import Selection
from tests.data_modules.sources.source_data import read
from tests.shared_data import write_rows

KEY = "data.tasks.qa.sources.main.where"
ROW = {"lang": "zh", "n": 3, "output": "abc", "meta": {"set": "x"}, "a b": 1, "len": 9}


@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ("lang == 'zh'", True),
        ("lang != 'zh'", False),
        ("lang in ['en', 'zh'] and n > 2", True),
        ("not (1 < n <= 2)", True),
        ("len(output) == 4", False),
        ("output.startswith('ab') or nowhere", True),
        ("meta.set == 'x' and meta['set'] == 'x'", True),
        ("row['a b'] == 1", True),
        ("row.get('nowhere') is None", True),
        ("n % 2", True),
        ("len == 9", True),
    ],
)
def test_selects(expression: str, selected: bool) -> None:
    assert Selection(expression, KEY)(ROW) is selected


@pytest.mark.parametrize(
    ("expression", "rule", "reason"),
    [
        ("language == 'zh'", "where_field", r"field 'language' is missing \(has \['a b', 'lang'"),
        ("n < 'x'", "where_failed", "TypeError"),
        ("n / 0", "where_failed", "ZeroDivisionError"),
        ("row['x']", "where_failed", "KeyError"),
        ("meta.nowhere", "where_failed", "nowhere"),
    ],
)
def test_rows_it_cannot_work_with_are_rejects(expression: str, rule: str, reason: str) -> None:
    with pytest.raises(RowFault, match=reason) as caught:
        Selection(expression, KEY)(ROW)
    assert caught.value.rule == rule


@pytest.mark.parametrize(
    ("expression", "problem"),
    [
        ("lang = 'zh'", "it is no expression"),
        ("lang ==", "it is no expression"),
        ("lang; n", "it is no expression"),
        ("open('x')", "function 'open' is none of"),
        ("rand() < 0.5", "function 'rand' is none of"),
        ("lang.__class__", "'.__class__' is not available"),
        ("lambda: 1", "Lambda is not available"),
        ("n @ n", "operator MatMult is not available"),
    ],
)
def test_wrong_expressions_name_the_key(tmp_path: Path, expression: str, problem: str) -> None:
    write_rows(tmp_path / "a.jsonl", [ROW])
    with pytest.raises(DataFault) as caught:
        read(tmp_path, "a.jsonl", where=expression)
    (fault,) = caught.value.faults
    assert fault.where == KEY
    assert fault.seen == f"'{expression}'"
    assert problem in fault.rule


def test_rows_left_out_are_told_from_rejects(tmp_path: Path) -> None:
    rows: list[Any] = [
        {"lang": "zh", "instruction": "a", "output": "1"},
        {"lang": "en", "instruction": "a"},  # left out before its fault is looked for
        {"instruction": "a", "output": "3"},
        {"lang": "zh", "instruction": "a", "output": ""},
    ]
    write_rows(tmp_path / "a.jsonl", rows)
    first, second, third, fourth = read(tmp_path, "a.jsonl", where="lang == 'zh'")
    assert isinstance(first, Record)
    assert first.answer == "1"
    assert second is None
    assert isinstance(third, Reject)
    assert (third.rule, third.origin) == ("where_field", "a.jsonl:3")
    assert isinstance(fourth, Reject)
    assert fourth.rule == "empty_answer"
