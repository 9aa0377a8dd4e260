"""Every rule of phases, mixtures and balance: place, value, rule and remedy."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from data_modules.mixture import BalanceConfig, NegativesConfig, Order, OrderBy, Strategy
from tests.shared_config import Rule, both, check, faults_of, numbered, put, sound_config
from trainer.config.schema import Config, PhaseConfig
from trainer.config.validate import validate


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return sound_config(tmp_path)


def drop_general(config: Config) -> None:
    config.data.tasks["chat"].general = False


MIX = "curriculum.phases.mix"
BALANCE = f"{MIX}.balance"
AXES = Strategy.axes
RULES: list[Rule] = [
    # curriculum
    (put("curriculum.phases", {}), "curriculum.phases", "no phase", "a run needs one", "=full"),
    (
        put("curriculum.select", {"nosuch": {}}),
        "+phase=nosuch",
        "the curriculum has no phase 'nosuch'",
        "its phases are mix",
        "'+phase@curriculum.phases.nosuch=nosuch'",
    ),
    (
        put(f"{MIX}.steps", 3),
        f"{MIX}.epochs/steps/tokens",
        "epochs and steps given",
        "a phase is exactly one of epochs, steps and tokens long",
        "Set the others to null",
    ),
    (
        put(f"{MIX}.epochs", None),
        f"{MIX}.epochs/steps/tokens",
        "none of them given",
        "a phase is exactly one of epochs, steps and tokens long",
        f"Set {MIX}.epochs=1",
    ),
    (put(f"{MIX}.epochs", 0.0), f"{MIX}.epochs", "0", "it must be above 0", ""),
    (
        both(put(f"{MIX}.epochs", None), put(f"{MIX}.steps", -2)),
        f"{MIX}.steps",
        "-2",
        "it must be above 0",
        "",
    ),
    (
        both(put(f"{MIX}.epochs", None), put(f"{MIX}.tokens", 0)),
        f"{MIX}.tokens",
        "0",
        "it must be above 0",
        "",
    ),
    (put(f"{MIX}.lr", 0.0), f"{MIX}.lr", "0", "it must be above 0", ""),
    (put(f"{MIX}.lr", -1e-4), f"{MIX}.lr", "-0.0001", "it must be above 0", ""),
    (put(f"{MIX}.block_rows", 0), f"{MIX}.block_rows", "0", "it must be at least 1", ""),
    *(
        (put(f"{MIX}.schedule.{name}", 1.5), f"{MIX}.schedule.{name}", "1.5", "in [0, 1]", "")
        for name in ("warmup_ratio", "decay_ratio", "end_ratio")
    ),
    (
        put(f"{MIX}.schedule.warmup_steps", -1),
        f"{MIX}.schedule.warmup_steps",
        "-1",
        "it must be at least 0",
        "",
    ),
    (put(f"{MIX}.replay", -0.1), f"{MIX}.replay", "-0.1", "it must be in [0, 1)", ""),
    (
        both(put(f"{MIX}.tasks", ["hard"]), put(f"{MIX}.rest_share", -0.1)),
        f"{MIX}.rest_share",
        "-0.1",
        "it must be in [0, 1)",
        "",
    ),
    (
        both(put(f"{MIX}.tasks", ["hard"]), put(f"{MIX}.rest_share", 0.7)),
        MIX,
        "replay 0.3 + rest_share 0.7",
        "together they must leave room for the phase's own tasks",
        "",
    ),
    # the tasks of a phase
    (
        put(f"{MIX}.tasks", ["cod"]),
        f"{MIX}.tasks",
        "names 'cod', which is no task and no group",
        "defined: all, auto_hard, chat, code, general, hard, qa",
        "Did you mean 'code'?",
    ),
    (
        put(f"{MIX}.tasks", ["zzz"]),
        f"{MIX}.tasks",
        "names 'zzz', which is no task and no group",
        "defined: all, auto_hard, chat, code, general, hard, qa",
        "'data.groups.zzz=[...]'",
    ),
    (
        both(put("data.groups.hard", ["aimee"]), put(f"{MIX}.tasks", ["hard"])),
        "data.groups.hard",
        "names 'aimee', which no conf/task file defines",
        "defined: chat, code, qa",
        "Correct the name",
    ),
    (
        drop_general,
        f"{MIX}.replay",
        "0.3, but no task is general",
        "replay draws rows from general tasks",
        f"Set {MIX}.replay=0, or mark a task: data.tasks.chat.general=true.",
    ),
    (put(f"{MIX}.tasks", []), f"{MIX}.tasks", "[] holds no task", "at least one", "'all'"),
    (
        put(f"{MIX}.tasks", ["all", "chat"]),
        f"{MIX}.tasks",
        "chat is general and listed",
        "replay would draw it twice",
        "Set replay to 0",
    ),
    (
        put(f"{MIX}.rest_share", 0.2),
        f"{MIX}.rest_share",
        "0.2, but the phase already has every specialised task",
        "it draws from the tasks not listed",
        "Set it to 0",
    ),
    (
        put(f"{MIX}.loss_weights", {"cod": 1.0}),
        f"{MIX}.loss_weights",
        "names 'cod', which no conf/task file defines",
        "defined: chat, code, qa",
        "",
    ),
    (
        put(f"{MIX}.loss_weights", {"qa": -1.0}),
        f"{MIX}.loss_weights.qa",
        "-1",
        "it must be at least 0",
        "",
    ),
    # balance
    (
        put(f"{MIX}.balance", BalanceConfig(Strategy.caps, min_rows=0)),
        f"{MIX}.balance.min_rows",
        "0",
        "it must be at least 1",
        "",
    ),
    (
        put(f"{MIX}.balance", BalanceConfig(Strategy.caps, max_rows=0)),
        f"{MIX}.balance.max_rows",
        "0",
        "it must be at least 1",
        "",
    ),
    (
        put(f"{MIX}.balance", BalanceConfig(Strategy.caps, min_rows=9, max_rows=8)),
        f"{MIX}.balance.min_rows",
        "9",
        "it must not exceed max_rows (8)",
        "",
    ),
    (
        put(f"{MIX}.balance", BalanceConfig(Strategy.weights, weights={"qa": 1.0, "chat": 1.0})),
        f"{MIX}.balance.weights",
        "missing ['code'], not of the phase ['chat']",
        "one weight for every task of the phase",
        "",
    ),
    (
        put(f"{MIX}.balance", BalanceConfig(Strategy.weights, weights={"qa": 1.0, "code": 0.0})),
        f"{MIX}.balance.weights.code",
        "0",
        "it must be above 0",
        "Leave the task out",
    ),
    *(
        (put(BALANCE, BalanceConfig(strategy, **{name: 0})), f"{BALANCE}.{name}", "0", rule, "")
        for strategy, name, rule in (
            (Strategy.temperature, "rows", "it must be at least 1"),
            (Strategy.temperature, "size_limit", "it must be at least 1"),
            (Strategy.temperature, "temperature", "it must be above 0"),
            (Strategy.unimax, "max_repeats", "it must be above 0"),
        )
    ),
    *(
        (
            put(BALANCE, BalanceConfig(AXES, **{name: -1})),
            f"{BALANCE}.{name}",
            "-1",
            "it must be at least 0",
            "",
        )
        for name in ("quality", "difficulty")
    ),
    (
        put(BALANCE, BalanceConfig(AXES, importance={"qa": 0.0})),
        f"{BALANCE}.importance.qa",
        "0",
        "it must be above 0",
        "Leave the task out",
    ),
    (
        put(BALANCE, BalanceConfig(AXES, importance={"chat": 2.0})),
        f"{BALANCE}.importance",
        "names 'chat', which is no task of the phase",
        "its tasks: code, qa",
        "",
    ),
    (
        put(BALANCE, BalanceConfig(AXES, difficulty_of={"qa": 1.0, "code": -1.0})),
        f"{BALANCE}.difficulty_of.code",
        "-1",
        "it must be at least 0",
        "",
    ),
    (
        put(BALANCE, BalanceConfig(AXES, difficulty_of={"qa": 1.0})),
        f"{BALANCE}.difficulty_of",
        "missing ['code']",
        "difficulties compare the tasks of the phase",
        "or none: then the factor is 1 for all",
    ),
    (
        put(
            BALANCE,
            BalanceConfig(AXES, difficulty_of={"qa": 1.0, "code": 2.0}, difficulty_from="x.json"),
        ),
        f"{BALANCE}.difficulty_of",
        "given beside difficulty_from",
        "difficulty comes from one of them",
        "Take one of them out",
    ),
    # prompts, order, negatives
    *(
        (put(f"{MIX}.prompts.{name}", 1.5), f"{MIX}.prompts.{name}", "1.5", "in [0, 1]", "")
        for name in ("tag_dropout", "cue_share", "paraphrase_share")
    ),
    (
        both(put(f"{MIX}.prompts.cue_share", 0.2), put("data.tasks.qa.cues", [" "])),
        f"{MIX}.prompts.cue_share",
        "0.2, but no task has cues",
        "rows carry another task's cue",
        f"data.tasks.code.cues=[' ?'], or set {MIX}.prompts.cue_share=0.",
    ),
    (
        both(
            put(f"{MIX}.tasks", ["code"]),
            put(f"{MIX}.prompts.paraphrase_share", 0.2),
            put("data.tasks.qa.paraphrases", {"en": ["Please: {instruction}"]}),
        ),
        f"{MIX}.prompts.paraphrase_share",
        "0.2, but no task of the phase has templates",
        "instructions are rephrased from their task's templates",
        "data.tasks.code.paraphrases={any:['Please: {instruction}']}, or set "
        f"{MIX}.prompts.paraphrase_share=0.",
    ),
    (
        put(f"{MIX}.order_by", OrderBy.quality),
        f"{MIX}.order_by",
        "quality, but order is mixed",
        "only order 'easy_to_hard' uses it",
        f"Set {MIX}.order=easy_to_hard",
    ),
    (
        both(put(f"{MIX}.order", Order.easy_to_hard), put(f"{MIX}.order_by", OrderBy.loss)),
        f"{MIX}.order_by",
        "loss, but data.row_losses is not set",
        "rows are ordered by a model's loss on each",
        "launch/score.py",
    ),
    *(
        (put(f"{MIX}.negatives.{name}", value), f"{MIX}.negatives.{name}", f"{value:g}", rule, "")
        for name, value, rule in (
            ("share", -0.1, "it must be at least 0"),
            ("weight", -0.1, "it must be at least 0"),
            ("start", 1.0, "it must be in [0, 1)"),
        )
    ),
    (
        put(f"{MIX}.negatives", NegativesConfig(share=1.0, start=0.6)),
        f"{MIX}.negatives",
        "share 1 is 50% of all rows",
        "behind start 0.6 there is room for 40%",
        "Lower share or start",
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=numbered(RULES))
def test_rule(config: Config, rule: Rule) -> None:
    check(config, rule)


#: A value of every setting of a balance that only some strategies use, and those.
USED_BY = {
    "rows": (50, "weights temperature unimax axes"),
    "min_rows": (5, "caps"),
    "max_rows": (5, "caps"),
    "weights": ({"qa": 1.0, "code": 2.0}, "weights"),
    "temperature": (3.0, "temperature axes"),
    "size_limit": (10, "temperature axes"),
    "max_repeats": (2.0, "unimax"),
    "quality": (2.0, "axes"),
    "difficulty": (2.0, "axes"),
    "importance": ({"qa": 2.0}, "axes"),
    "difficulty_of": ({"qa": 1.0, "code": 2.0}, "axes"),
    "difficulty_from": ("evaluation.json", "axes"),
}


def test_the_table_of_settings_is_complete() -> None:
    assert {one.name for one in fields(BalanceConfig)} == {"strategy", *USED_BY}


@pytest.mark.parametrize("name", USED_BY)
@pytest.mark.parametrize("strategy", Strategy)
def test_a_setting_that_the_strategy_ignores_is_a_fault(
    config: Config, strategy: Strategy, name: str
) -> None:
    value, used_by = USED_BY[name]
    balance = BalanceConfig(strategy)
    if strategy is Strategy.weights:
        balance.weights = {"qa": 1.0, "code": 1.0}
    setattr(balance, name, value)
    config.curriculum.phases["mix"].balance = balance
    if strategy.value in used_by.split():
        validate(config, 1)
        return
    (fault,) = faults_of(config)
    assert fault.where == f"{BALANCE}.{name}"
    assert fault.seen == f"set, but strategy is {strategy.value}"
    for one in used_by.split():
        assert f"'{one}'" in fault.rule
    assert f"balance@{BALANCE}={used_by.split()[0]}" in fault.remedy


def test_axes_without_difficulties_are_sound(config: Config) -> None:
    config.curriculum.phases["mix"].balance = BalanceConfig(AXES)
    validate(config, 1)


def test_losses_for_an_order_are_sound(config: Config) -> None:
    phase = config.curriculum.phases["mix"]
    phase.order, phase.order_by = Order.easy_to_hard, OrderBy.loss
    config.data.row_losses = "losses.npz"
    validate(config, 1)


def test_cues_of_one_task_and_templates_of_a_task_of_the_phase_are_sound(config: Config) -> None:
    prompts = config.curriculum.phases["mix"].prompts
    prompts.cue_share = prompts.paraphrase_share = 0.2
    config.data.tasks["qa"].cues = [" ?"]
    # replay rows are rephrased too
    config.data.tasks["chat"].paraphrases = {"any": ["Please: {instruction}"]}
    validate(config, 1)


def test_only_phases_that_run_are_judged(config: Config) -> None:
    config.curriculum.phases["other"] = PhaseConfig(tasks=["nosuch"], epochs=1.0, lr=-1.0)
    assert {fault.where.split(".")[2] for fault in faults_of(config)} == {"other"}
    config.curriculum.select = {"mix": {}}
    validate(config, 1)
