"""What an evaluation found, and how it is stored: every figure with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from trainer.run_directory import read_json, write_json

#: Name of the prompt set that ordinary evaluation rows make.
ORDINARY = "ordinary"
#: Behaviours of answers that are two in one, and of answers that are none.
MIXED, NONE = "mixed", "none"


@dataclass(frozen=True)
class Figure:
    """A measured value with its 95 % interval.

    Attributes:
        value, low, high: the metric's own unit; shares and metrics in [0, 1].
        rows: rows it was measured on.
    """

    value: float
    low: float
    high: float
    rows: int


@dataclass(frozen=True)
class SetResult:
    """The answers of one task to the requests of one prompt set.

    Attributes:
        raw, processed: metric name -> figure, of the answers as generated and after the task's
            post-processing.
        truncated: answers cut at the task's ``max_new_tokens``; they count as wrong.
        in_format, in_format_processed: share of answers that keep the task's output format.
        behaviours: language of the request -> behaviour (a task's name, ``mixed`` or ``none``) ->
            answers; empty where behaviours are not judged.
    """

    rows: int
    raw: dict[str, Figure]
    processed: dict[str, Figure]
    truncated: int
    in_format: Figure
    in_format_processed: Figure
    behaviours: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskResult:
    """One task's evaluation.

    Attributes:
        rows: rows of the ordinary set.
        loss: mean nll of the supervised tokens of the ordinary set, in nats.
        metric: the task's main metric; "" where none judges it.
        sets: prompt set -> result; empty where no answers were generated.
        train_loss: the same loss on a fixed sample of training rows; None where not measured.
    """

    rows: int
    loss: float
    general: bool
    metric: str = ""
    sets: dict[str, SetResult] = field(default_factory=dict)
    train_loss: float | None = None

    @property
    def score(self) -> Figure | None:
        """The main metric on the ordinary set, after post-processing: what tables show."""
        return self.score_on(ORDINARY)

    def score_on(self, prompt_set: str) -> Figure | None:
        """The main metric on a prompt set, after post-processing."""
        found = self.sets.get(prompt_set)
        return None if found is None else found.processed.get(self.metric)


@dataclass(frozen=True)
class Crosstalk:
    """Which task's behaviour the answers of a prompt set show.

    Attributes:
        tasks: rows of the matrix: specialised tasks, then general ones.
        labels: columns: the same, then ``mixed`` and ``none``.
        matrix: share of a task's answers with a behaviour; rows sum to 1.
        rate: mean over the specialised tasks of ``per_task``.
        per_task: specialised task -> share of its answers that show another task's behaviour, less
            the share in which the judge finds that in right answers; not below 0.
        per_language: language -> the same over the rows in it.
        polluters: behaviour -> mean share of it in the answers of the other specialised tasks.
        routing: specialised task -> share of answers with the own behaviour.
        skill: specialised task -> main metric among answers with the own behaviour; None without any.
        gold_rate: specialised task -> share of right answers judged as another task's.
    """

    tasks: list[str]
    labels: list[str]
    matrix: list[list[float]]
    rate: Figure
    per_task: dict[str, Figure]
    per_language: dict[str, Figure]
    polluters: dict[str, float]
    routing: dict[str, float]
    skill: dict[str, float | None]
    gold_rate: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of one model.

    Attributes:
        tasks: task -> result.
        crosstalk: prompt set -> crosstalk; empty where behaviours are not judged.
        soft_crosstalk: specialised task -> task -> excess probability of beginning in its manner;
            see ``trainer.evaluation.soft_crosstalk``. Empty where not measured.
    """

    tasks: dict[str, TaskResult]
    crosstalk: dict[str, Crosstalk] = field(default_factory=dict)
    soft_crosstalk: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def special(self) -> dict[str, TaskResult]:
        """The specialised tasks' results."""
        return {name: one for name, one in self.tasks.items() if not one.general}

    @property
    def general(self) -> dict[str, TaskResult]:
        """The general tasks' results."""
        return {name: one for name, one in self.tasks.items() if one.general}


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson score interval of a share of n trials (Wilson 1927, JASA 22)."""
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def share(count: int, n: int) -> Figure:
    """A share of n rows with its Wilson interval."""
    return Figure(count / n, *wilson(count / n, n), n)


def save(path: Path, evaluation: Evaluation) -> None:
    """Write ``evaluation.json``."""
    write_json(path, asdict(evaluation))


def load(path: Path) -> Evaluation:
    """Read ``evaluation.json``."""
    return from_json(read_json(path))


def from_json(values: Mapping[str, Any]) -> Evaluation:
    """The evaluation that ``dataclasses.asdict`` made plain."""
    return Evaluation(
        {name: _task(one) for name, one in values["tasks"].items()},
        {name: _crosstalk(one) for name, one in values["crosstalk"].items()},
        values["soft_crosstalk"],
    )


def _task(values: Mapping[str, Any]) -> TaskResult:
    return TaskResult(**{**values, "sets": {k: _set(v) for k, v in values["sets"].items()}})


def _set(values: Mapping[str, Any]) -> SetResult:
    figures = {name: _figures(values[name]) for name in ("raw", "processed")}
    shares = {name: Figure(**values[name]) for name in ("in_format", "in_format_processed")}
    return SetResult(**{**values, **figures, **shares})


def _crosstalk(values: Mapping[str, Any]) -> Crosstalk:
    figures = {name: _figures(values[name]) for name in ("per_task", "per_language")}
    return Crosstalk(**{**values, **figures, "rate": Figure(**values["rate"])})


def _figures(values: Mapping[str, Any]) -> dict[str, Figure]:
    return {name: Figure(**one) for name, one in values.items()}
