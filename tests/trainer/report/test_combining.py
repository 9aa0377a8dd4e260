"""Intervals of means and differences, against figures worked out by hand."""

from __future__ import annotations

import math

import pytest

from trainer.evaluation.results import Figure
from trainer.report.combining import (
    difference,
    difference_over_seeds,
    mean_of,
    over_seeds,
)


def exact(value: float) -> Figure:
    return Figure(value, value, value, 10)


def test_half_widths_of_a_mean_add_in_squares() -> None:
    found = mean_of([Figure(0.5, 0.2, 0.6, 100), Figure(0.9, 0.5, 0.95, 50)])
    assert found is not None
    assert found.value == pytest.approx(0.7)
    assert found.low == pytest.approx(0.7 - math.hypot(0.3, 0.4) / 2)
    assert found.high == pytest.approx(0.7 + math.hypot(0.1, 0.05) / 2)
    assert found.rows == 150
    assert mean_of([]) is None


def test_a_difference_takes_the_near_side_of_one_and_the_far_side_of_the_other() -> None:
    found = difference(Figure(0.8, 0.5, 0.9, 100), Figure(0.3, 0.1, 0.7, 40))
    assert found.value == pytest.approx(0.5)
    assert found.low == pytest.approx(0.5 - math.hypot(0.3, 0.4))
    assert found.high == pytest.approx(0.5 + math.hypot(0.1, 0.2))


def test_student_over_three_seeds() -> None:
    # mean 0.5, standard deviation 0.1; t(0.975; 2) = 4.302653
    found = over_seeds([exact(0.4), exact(0.5), exact(0.6)])
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert (found.value, found.low) == pytest.approx((0.5, 0.5 - half), abs=1e-6)
    assert found.high == pytest.approx(0.5 + half, abs=1e-6)


def test_one_seed_keeps_its_own_interval() -> None:
    one = Figure(0.4, 0.3, 0.55, 90)
    assert over_seeds([one]) == one


def test_seeds_that_agree_know_no_more_than_their_rows() -> None:
    found = over_seeds([Figure(0.0, 0.0, 0.02, 150)] * 4)
    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(0.01)  # 0.02 * sqrt(4) / 4


def test_welch_over_seeds() -> None:
    ones = [exact(value) for value in (0.6, 0.7, 0.8)]
    found = difference_over_seeds(ones, [exact(value) for value in (0.1, 0.2, 0.3)])
    # variances alike: four degrees of freedom, t(0.975; 4) = 2.776445
    half = 2.776445 * math.sqrt(0.02 / 3)
    assert (found.value, found.low) == pytest.approx((0.5, 0.5 - half), abs=1e-6)
    assert found.high == pytest.approx(0.5 + half, abs=1e-6)
    # beside seeds that do not vary, those of the other side: t(0.975; 2) = 4.302653
    against = difference_over_seeds(ones, [exact(0.2), exact(0.2)])
    assert against.high == pytest.approx(0.5 + 4.302653 * math.sqrt(0.01 / 3), abs=1e-6)


def test_a_single_run_against_seeds_uses_both_intervals() -> None:
    one = Figure(0.5, 0.4, 0.6, 100)
    seeds = [exact(0.1), exact(0.2), exact(0.3)]
    found = difference_over_seeds([one], seeds)
    half = 4.302653 * 0.1 / math.sqrt(3)
    assert found.low == pytest.approx(0.3 - math.hypot(0.1, half), abs=1e-6)
