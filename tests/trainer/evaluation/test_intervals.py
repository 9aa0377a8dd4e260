"""Intervals against cases that are known exactly."""

from __future__ import annotations

import math

import numpy as np
import pytest

from trainer.evaluation.intervals import bootstrap, bootstrap_over_seeds


def mean(sums: np.ndarray, n: np.ndarray) -> np.ndarray:
    return sums[..., 0] / n


def test_the_mean_of_many_rows_has_the_normal_interval() -> None:
    draw = np.random.default_rng(0)
    values = draw.normal(3, 2, size=2000)
    low, high = bootstrap(values[:, None], mean, 20_000, "normal")
    half = 1.959964 * values.std() / math.sqrt(2000)
    # a quantile of 20,000 resamples is off by about 1.6 % of the standard error
    assert (low, high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.05 * half
    )


def test_a_share_has_the_binomial_interval() -> None:
    values = np.repeat([0.0, 1.0], [50, 50])[:, None]
    # a binomial(100, 1/2) is below 40 in 1.8 % of draws, below 41 in 2.8 %
    assert bootstrap(values, mean, 20_000, "share") == pytest.approx((0.4, 0.6))


def test_ratios_are_resampled_by_row() -> None:
    rows = np.array([[1.0, 2.0], [3.0, 6.0], [5.0, 10.0]])
    low, high = bootstrap(rows, lambda sums, n: sums[..., 0] / sums[..., 1], 500, "ratio")
    assert (low, high) == (0.5, 0.5), "the ratio is the same in every row"


def test_many_resamples_are_drawn_in_pieces_of_one_stream() -> None:
    rows = np.arange(3000, dtype=float)[:, None]
    low, high = bootstrap(rows, mean, 3000, "pieces")
    half = 1.959964 * rows.std() / math.sqrt(3000)
    assert high - low == pytest.approx(2 * half, rel=0.08)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_few_seeds_span_at_least_their_t_interval_or_range(seeds: int) -> None:
    """Resampled means cannot leave the range; up to it the expanded interval is Student's."""
    values = np.linspace(0.5, 0.7, seeds)
    found, low, high = bootstrap_over_seeds([[one] for one in values], 20_000, "few")
    quantile = {2: 12.7062, 3: 4.30265, 5: 2.77645}[seeds]
    half = quantile * values.std(ddof=1) / math.sqrt(seeds)
    assert found == pytest.approx(0.6)
    assert high - 0.6 == pytest.approx(min(half, 0.1), rel=0.12)
    assert 0.6 - low == pytest.approx(min(half, 0.1), rel=0.12)


def test_rows_within_seeds_widen_the_interval() -> None:
    draw = np.random.default_rng(1)
    rows = [(draw.random(40) < share).astype(float) for share in (0.4, 0.5, 0.6)]
    _, low, high = bootstrap_over_seeds(rows, 4000, "rows")
    _, low_of_means, high_of_means = bootstrap_over_seeds(
        [[one.mean()] for one in rows], 4000, "rows"
    )
    assert low < low_of_means < high_of_means < high


def test_paired_differences_are_narrower_than_two_arms() -> None:
    draw = np.random.default_rng(2)
    base = draw.random((3, 200))
    better = base + 0.1
    found, low, high = bootstrap_over_seeds(list(better - base), 500, "pairs")
    assert (found, low, high) == pytest.approx((0.1, 0.1, 0.1))


def test_one_seed_knows_its_rows_alone() -> None:
    values = np.repeat([0.0, 1.0], [50, 50])
    assert bootstrap_over_seeds([values], 20_000, "one") == pytest.approx((0.5, 0.4, 0.6))


@pytest.mark.parametrize("values", [[], [[0.5], []]])
def test_seeds_without_scores_are_refused(values: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="every seed needs some"):
        bootstrap_over_seeds(values, 10, "x")
