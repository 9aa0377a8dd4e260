"""Differences and means of figures with their intervals, and figures in words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

from trainer.evaluation.results import Figure

_NAMED = 5  # tasks named in a sentence


def difference(one: Figure, other: Figure) -> Figure:
    """``one - other``, measured on different rows (MOVER: Zou and Donner 2008, Stat. in Medicine 27)."""
    value = one.value - other.value
    below = math.hypot(one.value - one.low, other.high - other.value)
    above = math.hypot(one.high - one.value, other.value - other.low)
    return Figure(value, value - below, value + above, min(one.rows, other.rows))


def mean(figures: Sequence[Figure]) -> Figure:
    """Mean of independent figures, at least one; MOVER as in :func:`difference`."""
    n = len(figures)
    value = sum(one.value for one in figures) / n
    below = math.sqrt(sum((one.value - one.low) ** 2 for one in figures)) / n
    above = math.sqrt(sum((one.high - one.value) ** 2 for one in figures)) / n
    return Figure(value, value - below, value + above, sum(one.rows for one in figures))


def mean_of(values: Sequence[float]) -> Figure:
    """Mean of measurements, at least two, with the interval of a normal distribution."""
    middle = statistics.fmean(values)
    half = 1.959964 * statistics.stdev(values) / math.sqrt(len(values))
    return Figure(middle, middle - half, middle + half, len(values))


def named(parts: Iterable[str]) -> str:
    """Some names of a list and how many more there are."""
    names = list(parts)
    rest = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")


def percent(figure: Figure) -> str:
    """``12.5 % (8.1-18.0)``."""
    return f"{100 * figure.value:.1f} % ({100 * figure.low:.1f}-{100 * figure.high:.1f})"
