"""What an evaluation found, per task, and how it is stored."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.run_directory import read_json, write_json


@dataclass(frozen=True)
class TaskResult:
    """One task's evaluation.

    Attributes:
        rows: rows evaluated.
        loss: mean nll of the supervised tokens, in nats.
        accuracy: share of right greedy answers; None where the task's metric judges none.
        truncated: answers cut at the task's ``max_new_tokens``; they count as wrong.
        in_format: share of the answers, as generated, that keep the task's output format
            (``TaskConfig.unify``); None where none were generated.
    """

    rows: int
    loss: float
    general: bool
    accuracy: float | None = None
    truncated: int | None = None
    in_format: float | None = None

    @property
    def accuracy_interval(self) -> tuple[float, float] | None:
        """95 % Wilson score interval of the accuracy."""
        return None if self.accuracy is None else wilson(self.accuracy, self.rows)


Evaluation = dict[str, TaskResult]


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a share of n trials (Wilson 1927, JASA 22)."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def save(path: Path, results: Evaluation) -> None:
    """Write ``evaluation.json``."""
    tasks: dict[str, Any] = {}
    for task, result in results.items():
        tasks[task] = asdict(result) | {"accuracy_interval": result.accuracy_interval}
    write_json(path, {"tasks": tasks})


def load(path: Path) -> Evaluation:
    """Read ``evaluation.json``."""
    tasks = read_json(path)["tasks"]
    for entry in tasks.values():
        entry.pop("accuracy_interval")
    return {task: TaskResult(**entry) for task, entry in tasks.items()}
