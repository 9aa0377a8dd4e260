"""Watches whether negatives cost what the positives have learnt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SMOOTHING = 0.95  # share of the average that a step keeps: about the last twenty count
FIRST_STEPS = 20  # since the first negative, in which nothing is said yet
MOST_RISE = 0.05


class NegativesWatch:
    """Finds the positives' loss rising after a phase's first negative.

    Each task's loss is smoothed by itself and the tasks are averaged, so that a step's own mixture of
    easy and hard tasks is no rise. What the tasks stood at in the first step with a negative is what
    they are held against; a task that comes later is not watched.
    """

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}  # task -> weighted losses, weights
        self._before: dict[str, float] = {}
        self._steps = 0  # since the first negative
        self._warned = False

    def state(self) -> dict[str, Any]:
        """What it remembers, as JSON has it."""
        return {
            "sums": {task: list(sums) for task, sums in self._sums.items()},
            "before": self._before,
            "steps": self._steps,
            "warned": self._warned,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self._sums = {task: (sums[0], sums[1]) for task, sums in state["sums"].items()}
        self._before = dict(state["before"])
        self._steps, self._warned = state["steps"], state["warned"]

    def warning(self, losses: Mapping[str, float], has_negatives: bool) -> str | None:
        """Take in one step's mean positive loss per task; the warning, at most once."""
        for task, loss in losses.items():
            total, weight = self._sums.get(task, (0.0, 0.0))
            self._sums[task] = (SMOOTHING * total + loss, SMOOTHING * weight + 1.0)
        smoothed = {task: total / weight for task, (total, weight) in self._sums.items()}
        if has_negatives and not self._before:
            # This step's loss is from before its update.
            self._before = smoothed
        self._steps += bool(self._before)
        before = sum(self._before.values())
        now = sum(smoothed[task] for task in self._before)
        if self._warned or self._steps <= FIRST_STEPS or now <= (1 + MOST_RISE) * before:
            return None
        self._warned = True
        count = len(self._before)
        return (
            f"the loss of the right answers rose from {before / count:.4g} to {now / count:.4g} "
            f"(smoothed, mean over tasks) since the negatives began; lower negatives.weight or "
            "negatives.share if it stays there"
        )
