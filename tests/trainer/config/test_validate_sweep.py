"""Rules on a sweep's own settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.config import PromptSet
from tests.shared_config import Change, Rule, both, check, numbered, put, sound_config
from trainer.config.measures import KNOWN, direction
from trainer.config.schema import Config
from trainer.config.validate_sweep import directions, search_faults
from trainer.report.comparison import measures_of
from trainer.report.summarise import summarise
from trainer.run_facts import read_run


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return sound_config(tmp_path)


RULES: list[Rule] = [
    (put("sweep.at_once", 0), "sweep.at_once", "0", "at least 1", ""),
    (put("sweep.trials", 0), "sweep.trials", "0", "at least 1", ""),
    (put("sweep.startup_trials", -1), "sweep.startup_trials", "-1", "at least 0", ""),
    (put("sweep.pruning_startup", 0), "sweep.pruning_startup", "0", "at least 1", ""),
    (put("sweep.seed", -1), "sweep.seed", "-1", "at least 0", ""),
    (put("sweep.poll_s", 0.0), "sweep.poll_s", "0", "above 0", ""),
    (put("sweep.directory", " "), "sweep.directory", "empty", "kept in it", ""),
    (put("sweep.objectives", []), "sweep.objectives", "empty", "at least one", "[mean]"),
    (put("sweep.objectives", ["f1"]), "sweep.objectives", "f1", "no such measure", "task/<task>"),
    (put("sweep.objectives", ["task/"]), "sweep.objectives", "task/", "no such measure", ""),
    (put("sweep.objectives", ["mean"] * 2), "sweep.objectives", "mean twice", "once", ""),
    (put("sweep.directions", ["up"]), "sweep.directions", "up", "maximize or minimize", ""),
    (
        put("sweep.directions", ["maximize"] * 2),
        "sweep.directions",
        "2 for 1 objectives",
        "every objective has one",
        "",
    ),
    (
        put("sweep.objectives", ["steps"]),
        "sweep.directions",
        "not set",
        "neither more nor less",
        "",
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=numbered(RULES))
def test_rules(config: Config, rule: Rule) -> None:
    check(config, rule)


def test_directions_are_known_or_given(config: Config) -> None:
    config.sweep.objectives = ["mean", "crosstalk/conflict", "task/qa", "loss"]
    assert list(directions(config.sweep).values()) == [
        *("maximize", "minimize", "maximize", "minimize"),
    ]
    config.sweep.directions = ["minimize"] * 4
    assert set(directions(config.sweep).values()) == {"minimize"}


SEARCH: list[tuple[Change, str, str]] = [
    (put("evaluation.at_phase_end", False), "evaluation.at_phase_end", "behind the last phase"),
    (put("evaluation.generate", False), "evaluation.generate", "mean comes from judged answers"),
    (put("sweep.objectives", ["task/poems"]), "sweep.objectives", "no such task"),
    (put("sweep.objectives", ["task/chat"]), "sweep.objectives", "general tasks"),
    (put("sweep.objectives", ["crosstalk/odd"]), "sweep.objectives", "no such prompt set"),
    (put("sweep.objectives", ["crosstalk/conflict"]), "sweep.objectives", "that are asked"),
    (
        both(put("sweep.objectives", ["crosstalk/ordinary"]), put("evaluation.behaviours", False)),
        "evaluation.behaviours",
        "judged by behaviours",
    ),
    (
        both(put("sweep.pruning", True), put("sweep.objectives", ["mean", "worst"])),
        "sweep.pruning",
        "none alone says",
    ),
    (
        both(put("sweep.pruning", True), put("checkpoint.sharded", False)),
        "sweep.pruning",
        "goes on from its checkpoint",
    ),
    (put("sweep.wait", False), "sweep.wait", "what the earlier runs gave"),
    (
        both(
            put("sweep.objectives", ["general_before"]),
            both(put("sweep.directions", ["maximize"]), put("evaluation.before_training", False)),
        ),
        "evaluation.before_training",
        "before training",
    ),
]


@pytest.mark.parametrize(("change", "where", "rule"), SEARCH)
def test_runs_that_yield_no_objective_are_refused(
    config: Config, change: Change, where: str, rule: str
) -> None:
    assert list(search_faults(config)) == []
    change(config)
    (fault,) = search_faults(config)
    assert fault.where == where
    assert rule in fault.rule


def test_objectives_that_are_there(config: Config) -> None:
    config.evaluation.prompt_sets = [PromptSet.ordinary, PromptSet.conflict]
    config.sweep.objectives = ["mean", "worst", "crosstalk/conflict", "task/qa", "general_after"]
    assert list(search_faults(config)) == []
    config.evaluation.generate = False
    config.sweep.objectives = ["loss"]
    assert list(search_faults(config)) == []


def test_measures_are_those_of_a_comparison(tmp_path: Path) -> None:
    from tests.trainer.report.made_run import made_run

    run = summarise(read_run(made_run(tmp_path, 4)))
    ways = {1: "maximize", -1: "minimize", 0: None}
    found = {one.key: ways[one.better] for one in measures_of([run])}
    assert {key: direction(key) for key in found} == found
    plain = {key for key in found if "/" not in key}
    # there is a loss in every run, but no comparison shows it
    assert plain | {"loss"} == set(KNOWN)
