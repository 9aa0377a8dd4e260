"""Confidence intervals by resampling, seeded by name.

Intervals of plain shares are Wilson's and stand in ``trainer.evaluation.results``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np

from data_modules.seeding import generator

#: Share of resamples, or of repetitions of a measurement, that an interval leaves out.
ALPHA = 0.05
#: Numbers of draws that are held at once.
_AT_ONCE = 4_000_000
# Resamples are one fixed draw per name: an evaluation says the same when it is repeated.
_SEED = 0


def bootstrap(
    statistics: np.ndarray,
    value: Callable[[np.ndarray, np.ndarray], np.ndarray],
    samples: int,
    name: str,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a metric, over rows (Efron and Tibshirani 1993, chapter 13).

    Rows are drawn with replacement; sums of their statistics are all that a metric needs, so corpus
    metrics are resampled exactly.

    Args:
        statistics: float64 [n, k] with n > 0 and no NaN.
        value: sums [samples, k] and n [samples] -> metric [samples].
        samples: resamples, at least 1.
        name: of the draw.
    """
    n = len(statistics)
    draw = generator(_SEED, "bootstrap", name, n)
    at_once = max(1, _AT_ONCE // n)
    values = []
    for start in range(0, samples, at_once):
        rows = min(at_once, samples - start)
        times = draw.multinomial(n, np.full(n, 1 / n), size=rows)
        values.append(value(times @ statistics, np.full(rows, n)))
    low, high = np.quantile(np.concatenate(values), [ALPHA / 2, 1 - ALPHA / 2])
    return float(low), float(high)


def bootstrap_over_seeds(
    values: Sequence[Sequence[float] | np.ndarray], samples: int, name: str
) -> tuple[float, float, float]:
    """Mean over seeds with its 95 % interval: seeds are drawn, then rows within each drawn seed.

    Rows within a seed share a model, so they do not stand for further seeds (Field and Welsh 2007, JRSS
    B 69: hierarchical bootstrap). For two arms trained on the same seeds and asked the same rows, give
    the differences: the interval is then the paired one.

    A percentile interval of few values is too narrow, three seeds' by half. The percentiles are
    therefore the expanded ones (Hesterberg 2015, The American Statistician 69, section 3.3): with three
    seeds practically the range of the resampled means, with many the usual ones. Expansion is by the
    number of seeds.

    Args:
        values: of each seed the scores of its rows; a seed with one score is ``[score]``.
        samples: resamples, at least 1.
        name: of the draw.

    Returns:
        Mean of the seeds' means, low, high. With one seed the interval knows rows alone.

    Raises:
        ValueError: no seed, or a seed without scores.
    """
    from scipy.special import stdtrit  # Here, not above: a fifth of a second to load

    arms = [np.asarray(one, dtype=np.float64) for one in values]
    if not arms or not all(len(one) for one in arms):
        raise ValueError(f"scores of {[len(one) for one in arms]} rows, every seed needs some")
    draw = generator(_SEED, "bootstrap_over_seeds", name)
    seeds = len(arms)
    drawn = draw.integers(seeds, size=(samples, seeds))
    means = np.empty((samples, seeds))
    for seed, rows in enumerate(arms):
        places = drawn == seed
        times = draw.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), int(places.sum()))
        means[places] = times @ rows / len(rows)
    tail = ALPHA / 2
    if seeds > 1:
        spread = math.sqrt(seeds / (seeds - 1)) * float(stdtrit(seeds - 1, tail))
        tail = NormalDist().cdf(spread)
    low, high = np.quantile(means.mean(axis=1), [tail, 1 - tail])
    mean = float(np.mean([one.mean() for one in arms]))
    return mean, min(float(low), mean), max(float(high), mean)
