"""Answers of the built-in benchmark, judged by its own programs."""

from __future__ import annotations

from data_modules.benchmark import is_correct
from trainer.evaluation.metrics.base import Judged, RowMetric


class BenchAnswer(RowMetric):
    """Whether ``data_modules.benchmark.is_correct`` says so: other right answers than the gold count.

    A benchmark request is an instruction and, on its last line, the input.
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self.name = f"bench:{task}"

    def score(self, row: Judged) -> float:
        """0 or 1; a cut answer has 0."""
        asked = {"input": row.request.strip().split("\n")[-1], "output": row.gold}
        return float(row.finished and is_correct(self.task, asked, row.answer))
