"""Rules on meters: each broken alone, in its own words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shared_config import Rule, both, check, numbered, put, sound_config
from trainer.config.validate import validate

RULES: list[Rule] = [
    (put("gc_every_steps", 0), "gc_every_steps", "0", "at least 1", ""),
    (put("profile.first_step", 1), "profile.first_step", "1", "2 is the first", ""),
    (put("profile.steps", 0), "profile.steps", "0", "at least 1", ""),
    (put("profile.ranks", []), "profile.ranks", "[]", "some rank", "profile.ranks=[0]"),
    (
        both(put("profile.first_step", 5), put("profile.ranks", [0, 1])),
        "profile.ranks",
        "1",
        "ranks of this training are 0 to 0",
        "",
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=numbered(RULES))
def test_a_broken_rule_is_one_fault(
    rule: Rule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    check(sound_config(tmp_path), rule)


def test_ranks_of_a_profile_count_where_there_are_so_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = sound_config(tmp_path)
    config.profile.first_step, config.profile.ranks = 10, [0, 7]
    validate(config, 8)
    validate(config, None)
