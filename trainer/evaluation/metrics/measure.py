"""From a metric and judged rows to a figure with its interval, and to scores of single rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from trainer.evaluation.intervals import bootstrap
from trainer.evaluation.metrics.base import Judged, Metric

if TYPE_CHECKING:
    from trainer.evaluation.results import Figure


def figure(metric: Metric, rows: Sequence[Judged], bootstrap_samples: int, seed: str) -> Figure:
    """The metric over the rows that it judges, with its 95 % interval.

    Wilson's where it is a share of rows, else the percentile bootstrap over rows, widened to the value
    itself where that lies outside (which it may, for corpus metrics on a few rows).

    Args:
        bootstrap_samples: resamples.
        seed: names the resamples: figures of one name and number of rows are resampled alike, so that
            they can be compared pair by pair.

    Raises:
        ValueError: the metric judges none of the rows.
    """
    found, _ = measured(metric, rows, bootstrap_samples, seed)
    if found is None:
        raise ValueError(f"metric {metric.name} judges none of {len(rows)} rows")
    return found


def per_row(metric: Metric, rows: Sequence[Judged]) -> list[float | None]:
    """The metric on every row alone; None where it does not judge."""
    return _per_row(metric, metric.statistics(rows))


def measured(
    metric: Metric, rows: Sequence[Judged], bootstrap_samples: int, seed: str
) -> tuple[Figure | None, list[float | None]]:
    """:func:`figure`, None where it would raise, and :func:`per_row`, looking at every text once."""
    statistics = metric.statistics(rows)
    return _figure(metric, statistics, bootstrap_samples, seed), _per_row(metric, statistics)


def _figure(
    metric: Metric, statistics: np.ndarray, bootstrap_samples: int, seed: str
) -> Figure | None:
    # Here, not above: it takes PyTorch along, and checking a configuration needs only names of metrics.
    from trainer.evaluation.results import Figure, wilson

    statistics = statistics[~np.isnan(statistics).any(axis=1)]
    n = len(statistics)
    if n == 0:
        return None
    value = float(metric.value(statistics.sum(axis=0), np.array(n)))
    if _is_share(statistics, value):
        return Figure(value, *wilson(value, n), n)
    low, high = bootstrap(statistics, metric.value, bootstrap_samples, seed)
    return Figure(value, min(low, value), max(high, value), n)


def _per_row(metric: Metric, statistics: np.ndarray) -> list[float | None]:
    judged = ~np.isnan(statistics).any(axis=1)
    scores: list[float | None] = [None] * len(statistics)
    if judged.any():
        values = metric.value(statistics[judged], np.ones(int(judged.sum())))
        for index, value in zip(np.flatnonzero(judged), values, strict=True):
            scores[index] = float(value)
    return scores


def _is_share(statistics: np.ndarray, value: float) -> bool:
    zeros_and_ones = statistics.shape[1] == 1 and bool(np.isin(statistics, (0.0, 1.0)).all())
    return zeros_and_ones and value == float(statistics.mean())
