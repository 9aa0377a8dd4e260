"""Figures made of figures: means, differences and seeds, each with its 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, stdev

from scipy.special import stdtrit

from trainer.evaluation.results import Figure


def mean_of(figures: Sequence[Figure]) -> Figure | None:
    """The mean of independent figures; None of none.

    The interval is recovered from theirs, each side for itself (MOVER: Zou and Donner 2008,
    Statistics in Medicine 27): half-widths add in squares.
    """
    if not figures:
        return None
    n = len(figures)
    value = fmean(one.value for one in figures)
    below = math.sqrt(sum((one.value - one.low) ** 2 for one in figures)) / n
    above = math.sqrt(sum((one.high - one.value) ** 2 for one in figures)) / n
    return Figure(value, value - below, value + above, sum(one.rows for one in figures))


def difference(one: Figure, other: Figure) -> Figure:
    """``one - other`` of independent figures, its interval recovered from theirs (MOVER)."""
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Figure(value, value - below, value + above, min(one.rows, other.rows))


def over_seeds(figures: Sequence[Figure]) -> Figure:
    """The mean over seeds with Student's interval; of one seed, its own figure.

    The interval holds what seeds and rows change; ``rows`` is the number of rows of all seeds.
    """
    if len(figures) == 1:
        return figures[0]
    values = [one.value for one in figures]
    half = _student(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    value = fmean(values)
    return Figure(value, value - half, value + half, sum(one.rows for one in figures))


def difference_over_seeds(ones: Sequence[Figure], others: Sequence[Figure]) -> Figure:
    """Mean of ``ones`` less mean of ``others``, runs of different seeds.

    With two seeds or more on both sides by Welch (1947, Biometrika 34); else from the intervals of
    the two means.
    """
    if len(ones) < 2 or len(others) < 2:
        return difference(over_seeds(ones), over_seeds(others))
    sides = [[one.value for one in side] for side in (ones, others)]
    value = fmean(sides[0]) - fmean(sides[1])
    parts = [stdev(side) ** 2 / len(side) for side in sides]
    whole = sum(parts)
    half = 0.0
    if whole:
        freedom = whole**2 / sum(
            part**2 / (len(side) - 1) for part, side in zip(parts, sides, strict=True)
        )
        half = _student(freedom) * math.sqrt(whole)
    rows = min(sum(one.rows for one in side) for side in (ones, others))
    return Figure(value, value - half, value + half, rows)


def _student(freedom: float) -> float:
    """Student's quantile of a two-sided 95 % interval."""
    return float(stdtrit(freedom, 0.975))
