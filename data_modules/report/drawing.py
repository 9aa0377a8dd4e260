"""Where the page's bars go: geometry in per cent of a drawing's width and height."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from data_modules.report.contents import Histogram
from data_modules.report.figures import percentile

_HIGHEST = 92.0  # per cent of the height: room above for what stands over it


@dataclass(frozen=True, slots=True)
class Bar:
    """One bin: left edge, width and height, in per cent; ``label`` says its figures."""

    left: float
    width: float
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """A histogram ready to be drawn; marks are at None where there is no value."""

    bars: list[Bar]
    median: float | None
    p95: float | None
    median_at: float | None
    p95_at: float | None


@dataclass(frozen=True, slots=True)
class Axis:
    """A horizontal axis from ``low`` to ``high``, logarithmic in value + 1 or linear."""

    low: float
    high: float
    is_log: bool

    def at(self, value: float) -> float:
        """Place of a value in per cent of the width."""
        low, high, here = (self._scaled(one) for one in (self.low, self.high, value))
        return min(100.0, max(0.0, 100 * (here - low) / ((high - low) or 1.0)))

    def ticks(self) -> list[tuple[float, str]]:
        """Round values on a logarithmic axis, with their places."""
        values = [base * 10**power for power in range(7) for base in (1, 3)]
        inside = [value for value in values if self.low <= value <= self.high]
        return [(self.at(value), _short(value)) for value in inside]

    def _scaled(self, value: float) -> float:
        return math.log2(value + 1) if self.is_log else value


def length_axis(histograms: Iterable[Histogram], least: float) -> Axis:
    """One logarithmic axis that shows every value of the histograms, and at least ``least``."""
    used = [
        (low, high) for histogram in histograms for low, high, count in _bins(histogram) if count
    ]
    low = min((low for low, _ in used), default=0.0)
    high = max((high for _, high in used), default=1.0)
    return Axis(low, max(high, least), is_log=True)


def drawn(histogram: Histogram, axis: Axis, unit: str) -> Drawn:
    """A histogram on an axis; its fullest bin is nearly as high as the drawing."""
    fullest = max(histogram["counts"], default=0) or 1
    bars = [
        Bar(
            round(axis.at(low), 2),
            round(axis.at(high) - axis.at(low), 2),
            round(_HIGHEST * count / fullest, 2),
            f"{low:g} to {high:g} {unit}: {count:,} rows",
        )
        for low, high, count in _bins(histogram)
        if count
    ]
    median, p95 = percentile(histogram, 0.5), percentile(histogram, 0.95)
    return Drawn(
        bars,
        median,
        p95,
        None if median is None else axis.at(median),
        None if p95 is None else axis.at(p95),
    )


def _bins(histogram: Histogram) -> Iterable[tuple[float, float, int]]:
    edges = histogram["edges"]
    return zip(edges[:-1], edges[1:], histogram["counts"], strict=True)


def _short(value: int) -> str:
    return f"{value // 1000}k" if value >= 1000 else str(value)
