"""Phases on the step axis, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trainer.config.schema import Config, PhaseConfig, ScheduleConfig, Shape


@dataclass(frozen=True)
class Phase:
    """A phase's stretch of the run: global steps ``first_step`` .. ``last_step``, both 1-based."""

    name: str
    first_step: int
    last_step: int
    config: PhaseConfig

    @property
    def steps(self) -> int:
        return self.last_step - self.first_step + 1

    @property
    def warmup_steps(self) -> int:
        return warmup_steps(self.config.schedule, self.steps)


def selected(config: Config) -> dict[str, PhaseConfig]:
    """The phases to run, in order: those of ``+phase=``, or the whole curriculum."""
    names = list(config.curriculum.select) or list(config.curriculum.phases)
    return {name: config.curriculum.phases[name] for name in names}


def place(
    phases: dict[str, PhaseConfig], steps: dict[str, int], steps_before: int = 0
) -> list[Phase]:
    """Put phases one after another behind ``steps_before`` steps already made."""
    placed: list[Phase] = []
    last = steps_before
    for name, config in phases.items():
        placed.append(Phase(name, last + 1, last + steps[name], config))
        last += steps[name]
    return placed


def warmup_steps(schedule: ScheduleConfig, steps: int) -> int:
    """Steps of linear warm-up in a phase of ``steps`` steps."""
    if schedule.warmup_steps is not None:
        return schedule.warmup_steps
    return round(schedule.warmup_ratio * steps)


def lr_at(phases: Sequence[Phase], global_step: int) -> float:
    """Learning rate of optimizer step ``global_step`` (1-based).

    Raises:
        IndexError: no phase has that step.
    """
    for phase in phases:
        if phase.first_step <= global_step <= phase.last_step:
            index = global_step - phase.first_step
            return phase.config.lr * lr_factor(phase.config.schedule, index, phase.steps)
    raise IndexError(f"step {global_step} lies in no phase")


def lr_factor(schedule: ScheduleConfig, index: int, steps: int) -> float:
    """Learning rate / lr at the 0-based step ``index`` of a phase of ``steps`` steps.

    Warm-up rises linearly and reaches 1 at step ``warmup_steps`` (counted from 1). The decaying
    shapes start from 1 at the end of warm-up and reach ``end_ratio`` exactly at the last step.
    """
    warmup = warmup_steps(schedule, steps)
    if index < warmup:
        return (index + 1) / warmup
    if schedule.shape is Shape.constant:
        return 1.0
    start = warmup
    if schedule.shape is Shape.wsd:
        start = max(warmup, steps - max(1, round(schedule.decay_ratio * steps)))
        if index < start:
            return 1.0
    # Decay steps are start .. steps - 1; before the first the factor is 1, at the last end_ratio.
    progress = (index - start + 1) / (steps - start)
    if schedule.shape is Shape.cosine:
        progress = (1 - math.cos(math.pi * progress)) / 2
    return 1.0 + (schedule.end_ratio - 1.0) * progress
