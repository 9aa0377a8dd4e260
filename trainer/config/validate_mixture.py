"""Rules of the curriculum: every fault of phases, mixtures and balance, before data is read."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from data_modules.config import DataConfig, TaskConfig
from data_modules.faults import Fault
from data_modules.mixture import (
    AUTO_HARD,
    BalanceConfig,
    NegativesConfig,
    Order,
    OrderBy,
    PromptConfig,
    Strategy,
)
from data_modules.roles import Roles, hard_candidates, is_automatic, resolve_roles
from data_modules.wording import INSTRUCTION
from trainer.config.rules import above_zero, at_least, share
from trainer.config.schema import Config, PhaseConfig, ScheduleConfig
from trainer.config.validate_auto_hard import auto_hard_faults


def curriculum_faults(config: Config) -> Iterator[Fault]:
    """Every fault of the phases that run."""
    phases, select = config.curriculum.phases, config.curriculum.select
    if not phases:
        yield Fault("curriculum.phases", "no phase", "a run needs one", "Try curriculum=full.")
    for name in select:
        if name not in phases:
            yield Fault(
                f"+phase={name}",
                f"the curriculum has no phase '{name}'",
                f"its phases are {', '.join(phases) or 'none'}",
                f"Add it with '+phase@curriculum.phases.{name}={name}'.",
            )
    # A phase that does not run may refer to tasks that these data do not have.
    for before, name in pairwise([None, *(select or phases)]):
        if name in phases:
            yield from auto_hard_faults(config, name, phases[name], before)
            yield from _phase(config, f"curriculum.phases.{name}", phases[name])


def _phase(config: Config, key: str, phase: PhaseConfig) -> Iterator[Fault]:
    faults: list[Fault] = []
    lengths = {"epochs": phase.epochs, "steps": phase.steps, "tokens": phase.tokens}
    given = [name for name, value in lengths.items() if value is not None]
    if len(given) != 1:
        seen = f"{' and '.join(given) or 'none of them'} given"
        rule = "a phase is exactly one of epochs, steps and tokens long"
        remedy = "Set the others to null." if given else f"Set {key}.epochs=1, for example."
        faults.append(Fault(f"{key}.epochs/steps/tokens", seen, rule, remedy))
    for name in given:
        above_zero(f"{key}.{name}", lengths[name], faults)
    above_zero(f"{key}.lr", phase.lr, faults)
    at_least(f"{key}.block_rows", phase.block_rows, 1, faults)
    _schedule(f"{key}.schedule", phase.schedule, faults)
    share(f"{key}.replay", phase.replay, faults, below_one=True)
    share(f"{key}.rest_share", phase.rest_share, faults, below_one=True)
    if phase.replay + phase.rest_share >= 1:
        seen = f"replay {phase.replay:g} + rest_share {phase.rest_share:g}"
        faults.append(Fault(key, seen, "together they must leave room for the phase's own tasks"))
    for name in ("tag_dropout", "cue_share", "paraphrase_share"):
        share(f"{key}.prompts.{name}", getattr(phase.prompts, name), faults)
    yield from faults
    yield from _order(key, phase, config.data)
    yield from _negatives(f"{key}.negatives", phase.negatives)
    if not config.data.tasks or (config.data.discover and not has_root(config.data)):
        return  # one fault of the data, not one of every phase
    unknown = list(_unknown_tasks(config, key, phase))
    yield from unknown or _phase_tasks(config, key, phase)


def _schedule(key: str, schedule: ScheduleConfig, faults: list[Fault]) -> None:
    share(f"{key}.warmup_ratio", schedule.warmup_ratio, faults)
    share(f"{key}.decay_ratio", schedule.decay_ratio, faults)
    share(f"{key}.end_ratio", schedule.end_ratio, faults)
    at_least(f"{key}.warmup_steps", schedule.warmup_steps, 0, faults)


def _unknown_tasks(config: Config, key: str, phase: PhaseConfig) -> Iterator[Fault]:
    data = config.data
    known = sorted({*data.tasks, *data.groups, "all", "general", AUTO_HARD})
    for name in phase.tasks:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"Did you mean '{close[0]}'? " if close else ""
            remedy += (
                f"A group is defined with 'data.groups.{name}=[...]', a task with a conf/task file "
                "that the data file lists."
            )
            seen = f"names '{name}', which is no task and no group"
            yield Fault(f"{key}.tasks", seen, f"defined: {', '.join(known)}", remedy)
    for group in phase.tasks:
        for name in data.groups.get(group, ()):
            if name not in data.tasks:
                yield Fault(
                    f"data.groups.{group}",
                    f"names '{name}', which no conf/task file defines",
                    f"defined: {', '.join(sorted(data.tasks))}",
                    "Correct the name or leave it out.",
                )


def _phase_tasks(config: Config, key: str, phase: PhaseConfig) -> Iterator[Fault]:
    data = config.data
    general = [name for name, task in data.tasks.items() if task.general]
    if phase.replay and not general:
        yield Fault(
            f"{key}.replay",
            f"{phase.replay:g}, but no task is general",
            "replay draws rows from general tasks",
            f"Set {key}.replay=0, or mark a task: data.tasks.{sorted(data.tasks)[0]}.general=true.",
        )
    automatic = is_automatic(phase)
    # What holds for every task that the phase may be given holds for those that it is given.
    listed = replace(phase, tasks=list(hard_candidates(data))) if automatic else phase
    roles = resolve_roles(data, listed)
    if not roles.main:
        yield Fault(
            f"{key}.tasks",
            f"{phase.tasks} holds no task",
            "a phase needs at least one",
            "Name tasks or a group; 'all' is every task that is not general.",
        )
    both = sorted(set(roles.main) & set(roles.general))
    if both:
        seen = f"{', '.join(both)} is general and listed"
        yield Fault(f"{key}.tasks", seen, "replay would draw it twice", "Set replay to 0.")
    if phase.rest_share and not roles.rest and not automatic:
        seen = f"{phase.rest_share:g}, but the phase already has every specialised task"
        yield Fault(f"{key}.rest_share", seen, "it draws from the tasks not listed", "Set it to 0.")
    yield from _prompts(f"{key}.prompts", phase.prompts, data, roles)
    yield from _balance(f"{key}.balance", phase.balance, roles)
    for name in phase.loss_weights:
        if name not in data.tasks:
            seen = f"names '{name}', which no conf/task file defines"
            yield Fault(f"{key}.loss_weights", seen, f"defined: {', '.join(sorted(data.tasks))}")
        elif phase.loss_weights[name] < 0:
            seen = f"{phase.loss_weights[name]:g}"
            yield Fault(f"{key}.loss_weights.{name}", seen, "it must be at least 0")


def _prompts(key: str, prompts: PromptConfig, data: DataConfig, roles: Roles) -> Iterator[Fault]:
    """Shares of rows that no task's texts could ever reach."""
    example = (roles.main or tuple(data.tasks))[0]
    if 0 < prompts.cue_share <= 1 and not any(map(_has_cue, data.tasks.values())):
        remedy = f"Give tasks the forms that go with them, data.tasks.{example}.cues=[' ?'], "
        yield Fault(
            f"{key}.cue_share",
            f"{prompts.cue_share:g}, but no task has cues",
            "rows carry another task's cue",
            f"{remedy}or set {key}.cue_share=0.",
        )
    templates = any(data.tasks[name].paraphrases for name in roles.all)
    if 0 < prompts.paraphrase_share <= 1 and not templates:
        template = f"data.tasks.{example}.paraphrases={{any:['Please: {INSTRUCTION}']}}"
        yield Fault(
            f"{key}.paraphrase_share",
            f"{prompts.paraphrase_share:g}, but no task of the phase has templates",
            "instructions are rephrased from their task's templates",
            f"Write some, such as {template}, or set {key}.paraphrase_share=0.",
        )


def _has_cue(task: TaskConfig) -> bool:
    return any(cue.strip() for cue in task.cues)


def has_root(data: DataConfig) -> bool:
    """Whether the data are there; the benchmark makes its root itself."""
    return data.benchmark is not None or Path(data.root).is_dir()


def _order(key: str, phase: PhaseConfig, data: DataConfig) -> Iterator[Fault]:
    by = phase.order_by
    if phase.order is not Order.easy_to_hard and by is not OrderBy.length:
        seen = f"{by.value}, but order is {phase.order.value}"
        rule = "only order 'easy_to_hard' uses it"
        yield Fault(f"{key}.order_by", seen, rule, f"Set {key}.order=easy_to_hard.")
    elif by is OrderBy.loss and data.row_losses is None:
        yield Fault(
            f"{key}.order_by",
            "loss, but data.row_losses is not set",
            "rows are ordered by a model's loss on each",
            "Make the file with launch/score.py and set data.row_losses to it.",
        )


def _negatives(key: str, negatives: NegativesConfig) -> Iterator[Fault]:
    faults: list[Fault] = []
    at_least(f"{key}.share", negatives.share, 0, faults)
    at_least(f"{key}.weight", negatives.weight, 0, faults)
    share(f"{key}.start", negatives.start, faults, below_one=True)
    if not faults and negatives.share:
        part = negatives.share / (1 + negatives.share)
        if part > 1 - negatives.start:
            yield Fault(
                key,
                f"share {negatives.share:g} is {part:.0%} of all rows",
                f"behind start {negatives.start:g} there is room for {1 - negatives.start:.0%}",
                "Lower share or start.",
            )
    yield from faults


#: Settings of a balance -> the strategies that use them.
_USED_BY = {
    "rows": tuple(strategy for strategy in Strategy if strategy is not Strategy.natural),
    "min_rows": (Strategy.caps,),
    "max_rows": (Strategy.caps,),
    "weights": (Strategy.weights,),
    "temperature": (Strategy.temperature, Strategy.axes),
    "size_limit": (Strategy.temperature, Strategy.axes),
    "max_repeats": (Strategy.unimax,),
    "quality": (Strategy.axes,),
    "difficulty": (Strategy.axes,),
    "importance": (Strategy.axes,),
    "difficulty_of": (Strategy.axes,),
    "difficulty_from": (Strategy.axes,),
}


def _balance(key: str, balance: BalanceConfig, roles: Roles) -> Iterator[Fault]:
    faults: list[Fault] = []
    for name in ("rows", "min_rows", "max_rows", "size_limit"):
        at_least(f"{key}.{name}", getattr(balance, name), 1, faults)
    for name in ("temperature", "max_repeats"):
        above_zero(f"{key}.{name}", getattr(balance, name), faults)
    for name in ("quality", "difficulty"):
        at_least(f"{key}.{name}", getattr(balance, name), 0, faults)
    low, high = balance.min_rows, balance.max_rows
    if low is not None and high is not None and low > high:
        faults.append(Fault(f"{key}.min_rows", f"{low}", f"it must not exceed max_rows ({high})"))
    faults += _unused(key, balance)
    if balance.strategy is Strategy.weights and set(balance.weights) != set(roles.main):
        missing = sorted(set(roles.main) - set(balance.weights))
        extra = sorted(set(balance.weights) - set(roles.main))
        seen = f"missing {missing}, not of the phase {extra}"
        faults.append(Fault(f"{key}.weights", seen, "one weight for every task of the phase"))
    for table in ("weights", "importance"):
        for task, value in getattr(balance, table).items():
            remedy = "Leave the task out of the phase instead of giving it none."
            above_zero(f"{key}.{table}.{task}", value, faults, remedy)
    if balance.strategy is Strategy.axes:
        faults += _axes(key, balance, roles)
    yield from faults


def _unused(key: str, balance: BalanceConfig) -> Iterator[Fault]:
    """Settings that the strategy would ignore.

    A value that is the default says nothing: it may have come from another balance file.
    """
    neutral = BalanceConfig()
    for name, strategies in _USED_BY.items():
        if balance.strategy not in strategies and getattr(balance, name) != getattr(neutral, name):
            names = " and ".join(f"'{one.value}'" for one in strategies)
            yield Fault(
                f"{key}.{name}",
                f"set, but strategy is {balance.strategy.value}",
                f"only {names} use it" if len(strategies) > 1 else f"only {names} uses it",
                f"Choose {key.replace('curriculum', 'balance@curriculum', 1)}="
                f"{strategies[0].value}, or take the setting out.",
            )


def _axes(key: str, balance: BalanceConfig, roles: Roles) -> Iterator[Fault]:
    faults: list[Fault] = []
    for table in ("importance", "difficulty_of"):
        for task in sorted(set(getattr(balance, table)) - set(roles.main)):
            seen = f"names '{task}', which is no task of the phase"
            rule = f"its tasks: {', '.join(sorted(roles.main))}"
            faults.append(Fault(f"{key}.{table}", seen, rule))
    if balance.difficulty_of and balance.difficulty_from is not None:
        seen, rule = "given beside difficulty_from", "difficulty comes from one of them"
        faults.append(Fault(f"{key}.difficulty_of", seen, rule, "Take one of them out."))
    for task, value in balance.difficulty_of.items():
        at_least(f"{key}.difficulty_of.{task}", value, 0, faults)
    missing = sorted(set(roles.main) - set(balance.difficulty_of))
    if balance.difficulty_of and missing:
        seen, rule = f"missing {missing}", "difficulties compare the tasks of the phase"
        remedy = "Give every task one, or none: then the factor is 1 for all."
        faults.append(Fault(f"{key}.difficulty_of", seen, rule, remedy))
    yield from faults
