"""What a checkpoint holds beside weights and moments, as JSON that a person can read."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer.checkpoint.folder import STATE, Damaged, read_json_object

VERSION = 1


@dataclass(frozen=True)
class TrainedPhase:
    """A phase that a run has trained, or was training.

    Attributes:
        fingerprint: of its plan.
        settings: its configuration, as plain values.
    """

    name: str
    first_step: int
    last_step: int
    fingerprint: str
    settings: dict[str, Any]


@dataclass(frozen=True)
class TrainerState:
    """Where a run stands.

    The generators of all ranks need no place here: every step seeds them by its own number, see
    ``trainer.engine``. Data needs none either: a step's rows are found by its number.

    Attributes:
        global_step: optimizer steps done.
        phases: those done and the one under way, in training order.
        settings: everything else of the configuration, as plain values.
        model: the model's own configuration, as far as it shapes the computation.
        parameters: trained parameter -> shape.
        frozen: checksum of the weights that are not trained.
        adam_step: updates that Adam counts.
        passed_steps: steps that were left out for good, see ``trainer.guard``.
        cursors: file in the run directory -> bytes that were written by then.
        watches: what the watches over losses remember.
        phase_end: whether a phase ends here.
        reason: why it was saved, in words.
    """

    global_step: int
    phases: list[TrainedPhase]
    settings: dict[str, Any]
    model: dict[str, Any]
    parameters: dict[str, list[int]]
    frozen: int
    adam_step: float
    world_size: int
    zero_stage: int
    passed_steps: list[int] = field(default_factory=list)
    cursors: dict[str, int] = field(default_factory=dict)
    watches: dict[str, Any] = field(default_factory=dict)
    phase_end: bool = False
    reason: str = ""

    def text(self) -> str:
        """As JSON."""
        return json.dumps({"version": VERSION, **asdict(self)}, indent=2, ensure_ascii=False) + "\n"


def read_state(folder: Path) -> TrainerState:
    """The state of a checkpoint.

    Raises:
        Damaged: it cannot be read as one.
    """
    found = read_json_object(folder / STATE)
    if found.pop("version", None) != VERSION:
        raise Damaged(f"{STATE} is not of version {VERSION}")
    try:
        phases = [TrainedPhase(**phase) for phase in found.pop("phases")]
        state = TrainerState(phases=phases, **found)
        _check(state)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Damaged(f"{STATE} is no trainer state ({error})") from error
    return state


def _check(state: TrainerState) -> None:
    """Types that JSON and dataclasses let through, and numbers that contradict each other."""
    mappings = (state.settings, state.model, state.parameters, state.cursors, state.watches)
    if not all(isinstance(one, dict) for one in mappings):
        raise TypeError("a mapping is expected")
    if type(state.phase_end) is not bool:
        raise TypeError(f"a phase ends or not, {state.phase_end!r} is neither")
    _check_whole(state.global_step, state.frozen, state.world_size, state.zero_stage)
    _check_whole(*state.passed_steps, *state.cursors.values())
    for phase in state.phases:
        _check_phase(phase)
    if type(state.adam_step) not in (int, float) or not 0 <= state.adam_step < math.inf:
        raise ValueError(f"Adam cannot have counted {state.adam_step!r} updates")
    if not state.phases:
        raise ValueError("a checkpoint is of some phase")
    if state.global_step < 1 or any(one < 0 for one in state.cursors.values()):
        raise ValueError("a count is below its least")
    last = state.phases[-1]
    if not last.first_step <= state.global_step <= last.last_step:
        raise ValueError(f"step {state.global_step} lies outside of phase '{last.name}'")
    for shape in state.parameters.values():
        _check_whole(*shape)


def _check_phase(phase: TrainedPhase) -> None:
    _check_whole(phase.first_step, phase.last_step)
    texts = (phase.name, phase.fingerprint)
    if not all(isinstance(one, str) for one in texts) or not isinstance(phase.settings, dict):
        raise TypeError("a phase has a name, a fingerprint and settings")


def _check_whole(*values: object) -> None:
    for value in values:
        if type(value) is not int:
            raise TypeError(f"a whole number is expected, not {value!r}")
