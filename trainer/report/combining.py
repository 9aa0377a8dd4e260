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
    return _mean(figures) if figures else None


def _mean(figures: Sequence[Figure]) -> Figure:
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
    """The mean over seeds; of one seed, its own figure.

    The interval is the wider, on each side, of Student's over the seeds and of what the rows alone leave
    open: three seeds without a single leak still have asked only so many rows.
    """
    if len(figures) == 1:
        return figures[0]
    values = [one.value for one in figures]
    half = _student(len(values) - 1) * stdev(values) / math.sqrt(len(values))
    return _wider(_mean(figures), half)


def difference_over_seeds(ones: Sequence[Figure], others: Sequence[Figure]) -> Figure:
    """Mean of ``ones`` less mean of ``others``, runs of different seeds.

    With two seeds or more on both sides the interval is the wider of Welch's (1947, Biometrika 34) and
    the rows'; else it comes from the intervals of the two means.
    """
    if len(ones) < 2 or len(others) < 2:
        return difference(over_seeds(ones), over_seeds(others))
    rows = difference(_mean(ones), _mean(others))
    values = [[one.value for one in side] for side in (ones, others)]
    parts = [stdev(side) ** 2 / len(side) for side in values]
    whole = sum(parts)
    half = 0.0
    if whole:
        freedom = whole**2 / sum(
            part**2 / (len(side) - 1) for part, side in zip(parts, values, strict=True)
        )
        half = _student(freedom) * math.sqrt(whole)
    return _wider(rows, half)


def _wider(figure: Figure, half: float) -> Figure:
    """The figure with an interval that is nowhere narrower than ``half`` on each side."""
    low, high = min(figure.low, figure.value - half), max(figure.high, figure.value + half)
    return Figure(figure.value, low, high, figure.rows)


def _student(freedom: float) -> float:
    """Student's quantile of a two-sided 95 % interval."""
    return float(stdtrit(freedom, 0.975))
