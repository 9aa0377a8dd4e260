"""Every rule of phases that pick their tasks: place, value, rule and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.config import SourceConfig, TaskConfig
from data_modules.mixture import AutoHardConfig, BalanceConfig, HardBy, Strategy
from tests.shared_config import Rule, both, check, numbered, put, sound_config
from trainer.config.schema import Config, PhaseConfig
from trainer.config.validate import validate

HARD = "curriculum.phases.hard"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Phase mix, then hard, which picks one of qa and code."""
    monkeypatch.chdir(tmp_path)
    made = sound_config(tmp_path)
    for task in made.data.tasks.values():
        task.metric = "exact_match"
    made.curriculum.phases["hard"] = PhaseConfig(
        tasks=["auto_hard"], auto_hard=AutoHardConfig(most=1), rest_share=0.25, epochs=0.5
    )
    (tmp_path / "evaluation.json").touch()
    return made


def by(value: HardBy):  # type: ignore[no-untyped-def]
    return put(f"{HARD}.auto_hard.by", value)


def metrics(value: str):  # type: ignore[no-untyped-def]
    return both(*(put(f"data.tasks.{task}.metric", value) for task in ("qa", "code")))


def not_evaluated(config: Config) -> None:
    for task in ("qa", "code"):
        config.data.tasks[task].sources["main"].eval = ""


def without_training_rows(config: Config) -> None:
    config.data.tasks["code"].sources["main"].train = ""


def evaluated_elsewhere(config: Config) -> None:
    config.evaluation.at_phase_end = False
    config.curriculum.phases["hard"].auto_hard.evaluation = "evaluation.json"


RULES: list[Rule] = [
    (
        put("curriculum.phases.mix.auto_hard.most", 2),
        "curriculum.phases.mix.auto_hard",
        "set, but the phase lists its tasks",
        "only tasks: [auto_hard] uses it",
        "Set curriculum.phases.mix.tasks=[auto_hard].",
    ),
    (
        put(f"{HARD}.tasks", ["qa", "auto_hard"]),
        f"{HARD}.tasks",
        "auto_hard beside qa",
        "auto_hard picks all of a phase's tasks",
        f"Set {HARD}.tasks=[auto_hard].",
    ),
    (
        put(f"{HARD}.auto_hard.most", 0),
        f"{HARD}.auto_hard.most",
        "0",
        "it must be at least 1",
        "",
    ),
    (
        put(f"{HARD}.auto_hard.most", 2),
        f"{HARD}.auto_hard.most",
        "2, but there are 2 specialised tasks with training rows",
        "hard tasks are fewer than all",
        "set tasks=[all]",
    ),
    (
        without_training_rows,
        f"{HARD}.auto_hard.most",
        "1, but there are 1 specialised tasks with training rows",
        "hard tasks are fewer than all",
        "set tasks=[all]",
    ),
    (
        put(f"{HARD}.auto_hard.evaluation", "nosuch.json"),
        f"{HARD}.auto_hard.evaluation",
        "nosuch.json",
        "no such file",
        "Check the path.",
    ),
    (
        not_evaluated,
        f"{HARD}.auto_hard.by",
        "score, but no specialised task has evaluation rows",
        "hard tasks are found by an evaluation",
        "Set data.tasks.code.sources.main.eval=FILE.",
    ),
    (
        metrics("none"),
        f"{HARD}.auto_hard.by",
        "score, but no evaluated specialised task has a metric",
        "a score is a task's metric",
        f"or {HARD}.auto_hard.by=loss_fall.",
    ),
    (
        by(HardBy.gap),
        f"{HARD}.auto_hard.by",
        "gap, but no judged task has a target",
        "the gap is what a task's metric is below its target",
        "Set data.tasks.code.target=0.9",
    ),
    (
        put("evaluation.at_phase_end", False),
        f"{HARD}.auto_hard",
        "picks by the evaluation of phase 'mix', but evaluation.at_phase_end is false",
        "a phase later in the same run picks its tasks when it starts",
        f"or {HARD}.auto_hard.evaluation to",
    ),
    (
        put("evaluation.generate", False),
        f"{HARD}.auto_hard.by",
        "score, but evaluation.generate is false",
        "scores judge generated answers",
        f"or {HARD}.auto_hard.by=loss_fall.",
    ),
    # what listed tasks must have, every task that may be picked must have
    (
        put(f"{HARD}.balance", BalanceConfig(Strategy.weights, weights={"qa": 1.0})),
        f"{HARD}.balance.weights",
        "missing ['code'], not of the phase []",
        "one weight for every task of the phase",
        "",
    ),
    (
        put(f"{HARD}.balance", BalanceConfig(Strategy.axes, difficulty_of={"chat": 1.0})),
        f"{HARD}.balance.difficulty_of",
        "names 'chat', which is no task of the phase",
        "its tasks: code, qa",
        "",
    ),
    (
        put("data.groups.auto_hard", ["qa"]),
        "data.groups.auto_hard",
        "a reserved name",
        "are picked by an evaluation",
        "Rename the group.",
    ),
    (
        put("data.tasks.auto_hard", TaskConfig({"main": SourceConfig("train/qa.jsonl")})),
        "data.tasks.auto_hard",
        "also the name of a group",
        "a phase must be able to tell them apart",
        "Rename the task or the group.",
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=numbered(RULES))
def test_rule(config: Config, rule: Rule) -> None:
    if rule[1] == f"{HARD}.balance.difficulty_of":
        rule[0](config)
        config.curriculum.phases["hard"].balance.difficulty_of |= {"qa": 1.0, "code": 1.0}
        check(config, (lambda _: None, *rule[1:]))
        return
    check(config, rule)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: None,
        evaluated_elsewhere,
        both(by(HardBy.loss_fall), put("evaluation.generate", False)),
        both(by(HardBy.loss_fall), metrics("none")),
        both(by(HardBy.gap), put("data.tasks.qa.target", 0.9)),
        put(f"{HARD}.balance", BalanceConfig(Strategy.weights, weights={"qa": 1.0, "code": 2.0})),
        # the first phase of a run picks by what an earlier run left: no matter of its settings
        both(put("curriculum.select", {"hard": None}), put("evaluation.at_phase_end", False)),
    ],
)
def test_sound(config: Config, change) -> None:  # type: ignore[no-untyped-def]
    change(config)
    validate(config, 1)
