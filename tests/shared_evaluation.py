"""Hand-made evaluations."""

from __future__ import annotations

from trainer.evaluation.results import ORDINARY, Evaluation, Figure, SetResult, TaskResult


def judged(score: float, loss: float = 1.0, general: bool = False) -> TaskResult:
    """A task of ten rows whose main metric has this value."""
    figure, formed = Figure(score, score, score, 10), Figure(1.0, 1.0, 1.0, 10)
    found = SetResult(10, {"exact": figure}, {"exact": figure}, 0, formed, formed)
    return TaskResult(10, loss, general, "exact", {ORDINARY: found})


def evaluation(**scores: float) -> Evaluation:
    """Tasks by their scores; all losses are 1."""
    return Evaluation({name: judged(score) for name, score in scores.items()})
