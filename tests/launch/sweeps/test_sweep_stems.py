"""Which phases runs of a sweep have in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from launch.sweeps.stems import Stem, beginning, can_fork_behind, digest, shared
from tests.shared_config import sound_config
from trainer.config.schema import Config, PhaseConfig

PHASES = ("mix", "specialize", "hard")


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    config = sound_config(tmp_path)
    phases = {name: PhaseConfig(tasks=["all"], epochs=1.0, replay=0.3) for name in PHASES}
    config.curriculum.phases = phases
    return config


def with_lr(config: Config, **rates: float) -> Config:
    phases = {
        name: replace(phase, lr=rates.get(name, phase.lr))
        for name, phase in config.curriculum.phases.items()
    }
    return replace(config, curriculum=replace(config.curriculum, phases=phases))


def test_runs_that_differ_in_the_last_phase_share_the_ones_before(config: Config) -> None:
    runs = {f"{lr}": with_lr(config, hard=lr) for lr in (1e-4, 2e-4, 3e-4)}
    tree = shared(runs)
    stem = Stem("mix-specialize-1", ("mix", "specialize"), None, "0.0001")
    assert tree.stems == (stem,)
    assert tree.stem_of == dict.fromkeys(runs, "mix-specialize-1")


def test_beginnings_form_a_tree(config: Config) -> None:
    runs = {f"{a}-{b}": with_lr(config, specialize=a, hard=b) for a in (1e-4, 2e-4) for b in (1, 2)}
    tree = shared(runs)
    assert [(one.name, one.phases, one.parent, one.like) for one in tree.stems] == [
        ("mix-1", ("mix",), None, "0.0001-1"),
        ("mix-specialize-1", ("mix", "specialize"), "mix-1", "0.0001-1"),
        ("mix-specialize-2", ("mix", "specialize"), "mix-1", "0.0002-1"),
    ]
    assert tree.stem_of == {
        "0.0001-1": "mix-specialize-1",
        "0.0001-2": "mix-specialize-1",
        "0.0002-1": "mix-specialize-2",
        "0.0002-2": "mix-specialize-2",
    }


def test_a_run_that_shares_nothing_begins_anew(config: Config) -> None:
    runs = {
        "a": with_lr(config, hard=1),
        "b": with_lr(config, hard=2),
        "alone": with_lr(config, mix=3),
        "seed": replace(with_lr(config, hard=2), seed=7),
    }
    tree = shared(runs)
    assert tree.stem_of == {
        "a": "mix-specialize-1",
        "b": "mix-specialize-1",
        "alone": None,
        "seed": None,
    }


def test_a_shorter_run_stands_where_it_ends(config: Config) -> None:
    short = replace(config, curriculum=replace(config.curriculum, select={"mix": {}}))
    tree = shared({"short": short, "a": with_lr(config, hard=1), "b": with_lr(config, hard=2)})
    assert tree.stem_of["short"] is None
    assert [one.phases for one in tree.stems] == [("mix", "specialize")]


@pytest.mark.parametrize(
    ("key", "is_same"),
    [
        ("run_name", True),
        ("output_dir", True),
        ("resume", True),
        ("seed", False),
        ("global_batch_size", False),
        ("micro_batch_size", False),
        ("precision", False),
        ("init_from", False),
    ],
)
def test_what_makes_a_beginning(config: Config, key: str, is_same: bool) -> None:
    value = 8 if isinstance(getattr(config, key), int) else "other"
    other = replace(config, **{key: value})
    assert (beginning(config, 1) == beginning(other, 1)) is is_same
    assert (digest(config) == digest(other)) is is_same


def test_later_phases_are_no_part_of_a_beginning(config: Config) -> None:
    other = with_lr(config, hard=0.5)
    assert beginning(config, 2) == beginning(other, 2)
    assert beginning(config, 3) != beginning(other, 3)
    phases = dict(reversed(config.curriculum.phases.items()))
    turned = replace(config, curriculum=replace(config.curriculum, phases=phases))
    assert beginning(config, 1) != beginning(turned, 1)


def test_what_cannot_be_gone_on_from_is_not_shared(config: Config) -> None:
    assert can_fork_behind(config, 1)
    assert can_fork_behind(config, 2)
    assert not can_fork_behind(config, 3), "nothing is left to be trained"
    config.checkpoint.sharded = False
    assert not can_fork_behind(config, 1)
    config.checkpoint.sharded = True
    config.curriculum.phases = {"warm": config.curriculum.phases["mix"], **config.curriculum.phases}
    assert not can_fork_behind(config, 1), "+phase=warm would find no file"


def test_a_task_that_comes_later_may_decide_about_earlier_rows(config: Config) -> None:
    config.curriculum.phases["mix"].tasks = ["qa"]
    assert not can_fork_behind(config, 1)
    assert can_fork_behind(config, 2)
    config.curriculum.phases["specialize"].tasks = ["qa"]
    config.curriculum.phases["hard"].tasks = ["qa"]
    assert can_fork_behind(config, 1)
    config.curriculum.phases["hard"].replay = 0.0
    config.curriculum.phases["mix"].replay = 0.0
    assert not can_fork_behind(config, 1), "the general task comes with the second phase"
