"""What a metric is given and what it gives.

A metric turns every row into a few numbers that add up (its sufficient statistics), and sums of them
into a value. So a corpus metric such as BLEU is resampled exactly, without looking at texts again.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

#: What a row metric says of a row that it cannot judge.
UNJUDGED = math.nan


@dataclass(frozen=True)
class Judged:
    """One answer and what it is judged by.

    Attributes:
        request: the first user turn as it was asked, without tag and constraint.
        answer, gold: the answer given and the right one, the latter in the task's format.
        language: of the request ("zh", "en", ...; "" where unknown).
        finished: the answer ended by itself; one that was cut is a failure to every 0/1 metric.
        tests: Python assertions behind an answer that is code; "" if none.
    """

    request: str
    answer: str
    gold: str
    language: str
    finished: bool
    tests: str


@runtime_checkable
class Metric(Protocol):
    """A measure of answers in [0, 1], higher better."""

    name: str

    def statistics(self, rows: Sequence[Judged]) -> np.ndarray:
        """Sufficient statistics, float64 [rows, k]; a NaN in a row says that it is not judged.

        Whether a row is judged depends on its request, gold and tests, never on the answer.
        """

    def value(self, sums: np.ndarray, n: np.ndarray) -> np.ndarray:
        """The metric, float64 [...], of sums [..., k] of the statistics of n [...] judged rows each."""


class RowMetric(ABC):
    """A metric that is the mean of its rows' scores: what most own metrics are made from.

    A subclass sets ``name`` and writes :meth:`score`.
    """

    name: str

    @abstractmethod
    def score(self, row: Judged) -> float:
        """The row's score in [0, 1], or :data:`UNJUDGED`."""

    def statistics(self, rows: Sequence[Judged]) -> np.ndarray:
        """The rows' scores [rows, 1]."""
        return np.array([self.score(row) for row in rows], dtype=np.float64).reshape(-1, 1)

    def value(self, sums: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Their mean."""
        mean: np.ndarray = sums[..., 0] / n
        return mean
