"""Rules of phases that pick their tasks by an evaluation: every fault that shows without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_modules.faults import Fault
from data_modules.mixture import AUTO_HARD, AutoHardConfig, HardBy
from data_modules.roles import hard_candidates, is_automatic
from trainer.config.rules import at_least
from trainer.config.schema import Config, PhaseConfig


def auto_hard_faults(
    config: Config, name: str, phase: PhaseConfig, before: str | None
) -> Iterator[Fault]:
    """Faults of ``tasks: [auto_hard]`` and of its settings.

    Whether an earlier run has the evaluation that a first phase picks by is ``trainer.course``'s matter.

    Args:
        before: the phase of this run that comes before; None for the first.
    """
    key = f"curriculum.phases.{name}"
    if not is_automatic(phase):
        if phase.auto_hard != AutoHardConfig():
            seen, rule = "set, but the phase lists its tasks", f"only tasks: [{AUTO_HARD}] uses it"
            yield Fault(f"{key}.auto_hard", seen, rule, f"Set {key}.tasks=[{AUTO_HARD}].")
        return
    others = [task for task in phase.tasks if task != AUTO_HARD]
    if others:
        seen = f"{AUTO_HARD} beside {', '.join(others)}"
        rule = f"{AUTO_HARD} picks all of a phase's tasks"
        yield Fault(f"{key}.tasks", seen, rule, f"Set {key}.tasks=[{AUTO_HARD}].")
    yield from _most(config, f"{key}.auto_hard.most", phase.auto_hard.most)
    path = phase.auto_hard.evaluation
    if path is not None and not Path(path).is_file():
        yield Fault(f"{key}.auto_hard.evaluation", path, "no such file", "Check the path.")
    yield from _figures(config, f"{key}.auto_hard.by", phase.auto_hard.by)
    if path is None and before is not None:
        yield from _evaluated(config, name, phase.auto_hard.by, before)


def _most(config: Config, key: str, most: int) -> Iterator[Fault]:
    faults: list[Fault] = []
    at_least(key, most, 1, faults)
    yield from faults
    count = len(hard_candidates(config.data))
    if 0 < count <= most:  # none at all is a fault of the phase's tasks
        yield Fault(
            key,
            f"{most}, but there are {count} specialised tasks with training rows",
            "hard tasks are fewer than all",
            "Lower it, or set tasks=[all].",
        )


def _figures(config: Config, key: str, by: HardBy) -> Iterator[Fault]:
    """No task can have the figure, whatever the evaluation says."""
    tasks = {name: config.data.tasks[name] for name in hard_candidates(config.data)}
    if not tasks:
        return
    example = next(iter(tasks))
    evaluated = {name: task for name, task in tasks.items() if task.is_evaluated}
    judged = {name: task for name, task in evaluated.items() if task.metric != "none"}
    if not evaluated:
        yield Fault(
            key,
            f"{by.value}, but no specialised task has evaluation rows",
            "hard tasks are found by an evaluation",
            f"Set data.tasks.{example}.sources.main.eval=FILE.",
        )
    elif by is not HardBy.loss_fall and not judged:
        yield Fault(
            key,
            f"{by.value}, but no evaluated specialised task has a metric",
            "a score is a task's metric",
            f"Set data.tasks.{example}.metric, or {key}=loss_fall.",
        )
    elif by is HardBy.gap and all(task.target is None for task in judged.values()):
        yield Fault(
            key,
            "gap, but no judged task has a target",
            "the gap is what a task's metric is below its target",
            f"Set data.tasks.{next(iter(judged))}.target=0.9, for example, or {key}=score.",
        )


def _evaluated(config: Config, name: str, by: HardBy, before: str) -> Iterator[Fault]:
    """The evaluation of the phase before will not be made, or will not have the figure."""
    key = f"curriculum.phases.{name}.auto_hard"
    evaluation = config.evaluation
    if not evaluation.at_phase_end:
        yield Fault(
            key,
            f"picks by the evaluation of phase '{before}', but evaluation.at_phase_end is false",
            "a phase later in the same run picks its tasks when it starts",
            f"Set evaluation.at_phase_end=true, or {key}.evaluation to the evaluation.json of a run.",
        )
    elif by is not HardBy.loss_fall and not evaluation.generate:
        yield Fault(
            f"{key}.by",
            f"{by.value}, but evaluation.generate is false",
            "scores judge generated answers",
            f"Set evaluation.generate=true, or {key}.by=loss_fall.",
        )
