"""What each task lately lost: what a step's losses are held against."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

#: Share of the average that a step of the task keeps: about its last twenty count.
SMOOTHING = 0.95
#: Steps of a task before its losses say what is usual.
FIRST_STEPS = 10
#: A task that was away for more steps than this begins anew, since the model forgets: in benchmark runs,
#: tasks that a phase came back to lost up to a hundred times what they did when they were left.
MOST_AWAY = 10


@dataclass
class _Lately:
    """Decayed sums of one task.

    Attributes:
        nll: in nats.
        last: step that it was last seen in.
    """

    nll: float = 0.0
    tokens: float = 0.0
    steps: int = 0
    last: int = 0


class LossHistory:
    """Smoothed mean nll per answer token of every task, over the steps that were trained on."""

    def __init__(self) -> None:
        self._tasks: dict[str, _Lately] = {}
        self._step = 0

    def add(self, nll: Mapping[str, float], tokens: Mapping[str, int]) -> None:
        """Take in one step.

        Args:
            nll: task -> sum over its answer tokens, in nats; all finite.
            tokens: task -> its answer tokens, at least 1.
        """
        self._step += 1
        for task, count in tokens.items():
            one = self._tasks.setdefault(task, _Lately())
            if self._is_away(one):
                one.nll = one.tokens = one.steps = 0
            one.nll = SMOOTHING * one.nll + nll[task]
            one.tokens = SMOOTHING * one.tokens + count
            one.steps += 1
            one.last = self._step

    def expected(self, task: str) -> float | None:
        """What a token of the task should lose in the next step, in nats; None where that is not known."""
        one = self._tasks.get(task)
        if one is None or one.steps < FIRST_STEPS or self._is_away(one):
            return None
        return one.nll / one.tokens

    def _is_away(self, one: _Lately) -> bool:
        return self._step - one.last > MOST_AWAY

    def state(self) -> dict[str, Any]:
        """What it remembers, as JSON has it."""
        return {
            "step": self._step,
            "tasks": {task: asdict(one) for task, one in self._tasks.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self._step = state["step"]
        self._tasks = {task: _Lately(**one) for task, one in state["tasks"].items()}
