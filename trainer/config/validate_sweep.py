"""Rules on a sweep's own settings, and on what a search asks of its runs."""

from __future__ import annotations

from collections.abc import Iterator

from data_modules.config import PromptSet
from data_modules.faults import Fault
from trainer.config.measures import KNOWN, MAXIMIZE, MINIMIZE, OF_LOSSES, better, direction
from trainer.config.rules import above_zero, at_least
from trainer.config.schema import Config, SweepConfig

_NAMES = f"{', '.join(KNOWN)}, crosstalk/<prompt set> and task/<task>"


def sweep_faults(config: Config) -> Iterator[Fault]:
    """Every fault of ``sweep`` that does not depend on what is swept."""
    sweep, faults = config.sweep, list[Fault]()
    at_least("sweep.at_once", sweep.at_once, 1, faults)
    at_least("sweep.trials", sweep.trials, 1, faults)
    at_least("sweep.startup_trials", sweep.startup_trials, 0, faults)
    at_least("sweep.pruning_startup", sweep.pruning_startup, 1, faults)
    at_least("sweep.seed", sweep.seed, 0, faults)
    above_zero("sweep.poll_s", sweep.poll_s, faults)
    if not sweep.directory.strip():
        faults.append(Fault("sweep.directory", "empty", "all of a sweep is kept in it"))
    yield from faults
    yield from _objectives(sweep)
    yield from _directions(sweep)


def _objectives(sweep: SweepConfig) -> Iterator[Fault]:
    key = "sweep.objectives"
    if not sweep.objectives:
        yield Fault(key, "empty", "a sweep goes by at least one measure", "For example [mean].")
    for name in sweep.objectives:
        if better(name) is None:
            yield Fault(key, name, "no such measure", f"There are {_NAMES}.")
    for name in sorted(set(sweep.objectives)):
        if sweep.objectives.count(name) > 1:
            yield Fault(key, f"{name} twice", "every measure counts once")


def _directions(sweep: SweepConfig) -> Iterator[Fault]:
    for one in sweep.directions:
        if one not in (MAXIMIZE, MINIMIZE):
            yield Fault("sweep.directions", one, f"it is {MAXIMIZE} or {MINIMIZE}")
    if sweep.directions and len(sweep.directions) != len(sweep.objectives):
        seen = f"{len(sweep.directions)} for {len(sweep.objectives)} objectives"
        yield Fault("sweep.directions", seen, "every objective has one, or none has")
    elif not sweep.directions:
        for name in sweep.objectives:
            if better(name) == 0:
                rule = f"neither more nor less of {name} is better by itself"
                yield Fault("sweep.directions", "not set", rule, f"Say {MAXIMIZE} or {MINIMIZE}.")


def directions(sweep: SweepConfig) -> dict[str, str]:
    """Objective -> ``maximize`` or ``minimize``."""
    given = sweep.directions or [direction(name) or MAXIMIZE for name in sweep.objectives]
    return dict(zip(sweep.objectives, given, strict=True))


def search_faults(config: Config) -> Iterator[Fault]:
    """Where runs of this configuration do not yield what a search of them goes by."""
    sweep, evaluation = config.sweep, config.evaluation
    if not evaluation.at_phase_end:
        rule = "a search goes by the evaluation behind the last phase"
        yield Fault("evaluation.at_phase_end", "false", rule, "Choose evaluation=phase_end.")
    for name in sweep.objectives:
        if name not in OF_LOSSES and not evaluation.generate:
            rule = f"{name} comes from judged answers"
            yield Fault("evaluation.generate", "false", rule, "Set it, or go by loss.")
        kind, _, which = name.partition("/")
        if kind == "task":
            yield from _task(config, which)
        elif kind == "crosstalk":
            yield from _crosstalk(config, which)
        elif name == "general_before" and not evaluation.before_training:
            rule = "it is measured before training"
            yield Fault("evaluation.before_training", "false", rule, "Set it.")
    if sweep.pruning:
        yield from _pruning(config)
    if not sweep.wait:
        rule = "what is tried next depends on what the earlier runs gave"
        yield Fault("sweep.wait", "false", rule, "A search stays until its last trial.")


def _task(config: Config, name: str) -> Iterator[Fault]:
    task = config.data.tasks.get(name)
    if task is None:
        tasks = ", ".join(sorted(config.data.tasks))
        yield Fault("sweep.objectives", f"task/{name}", "no such task", f"There are {tasks}.")
    elif task.general:
        rule = "general tasks have general_after and general_loss_after"
        yield Fault("sweep.objectives", f"task/{name}", rule)


def _crosstalk(config: Config, name: str) -> Iterator[Fault]:
    evaluation, known = config.evaluation, [one.value for one in PromptSet]
    if name not in known:
        remedy = f"There are {', '.join(known)}."
        yield Fault("sweep.objectives", f"crosstalk/{name}", "no such prompt set", remedy)
    elif name not in [one.value for one in evaluation.prompt_sets]:
        rule = "crosstalk is measured on the prompt sets that are asked"
        remedy = "Add it to evaluation.prompt_sets, or choose evaluation=full."
        yield Fault("sweep.objectives", f"crosstalk/{name}", rule, remedy)
    if not evaluation.behaviours:
        rule = "crosstalk is judged by behaviours"
        yield Fault("evaluation.behaviours", "false", rule, "Set it.")


def _pruning(config: Config) -> Iterator[Fault]:
    count = len(config.sweep.objectives)
    if count > 1:
        rule = "of several objectives none alone says that a trial is worse"
        remedy = "Name one objective, or set sweep.pruning=false."
        yield Fault("sweep.pruning", f"true with {count} objectives", rule, remedy)
    if not config.checkpoint.sharded:
        rule = "a trial goes on from its checkpoint at every phase end"
        yield Fault("sweep.pruning", "true without checkpoint.sharded", rule, "Set that.")
