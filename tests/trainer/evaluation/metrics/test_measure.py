"""Figures and scores of single rows: intervals, rows that are not judged."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from tests.shared_judged import judged
from trainer.evaluation.metrics import Judged, RowMetric, figure, measured, metric, per_row
from trainer.evaluation.results import wilson


class Said(RowMetric):
    """The number that an answer is; NaN where the gold answer says so."""

    name = "said"

    def score(self, row: Judged) -> float:
        return math.nan if row.gold == "skip" else float(row.answer)


def said(numbers: Sequence[float]) -> list[Judged]:
    return [judged(str(number), "") for number in numbers]


def test_a_share_has_wilsons_interval() -> None:
    found = figure(Said(), said([1, 0, 1, 1]), 100, "x")
    assert (found.value, found.low, found.high, found.rows) == (0.75, *wilson(0.75, 4), 4)
    assert (found.low, found.high) == pytest.approx((0.30064, 0.95442), abs=1e-5)


def test_anything_else_is_resampled() -> None:
    found = figure(Said(), said([0.5] * 3 + [0.25]), 4000, "x")
    assert found.value == 0.4375
    # four rows: the quarter is drawn 0 to 4 times, at most 0 times in 1 of 3 resamples
    assert (found.low, found.high) == (0.3125, 0.5)


def test_rows_that_are_not_judged_do_not_count() -> None:
    rows = [*said([1, 0]), judged("1", "skip"), judged("1", "skip")]
    found = figure(Said(), rows, 100, "x")
    assert (found.value, found.rows) == (0.5, 2)
    assert per_row(Said(), rows) == [1.0, 0.0, None, None]


def test_nothing_judged_has_no_figure() -> None:
    rows = [judged("1", "skip")]
    assert per_row(Said(), rows) == [None]
    for some in (rows, []):
        with pytest.raises(ValueError, match="metric said judges none of"):
            figure(Said(), some, 100, "x")


def test_a_figure_is_the_same_again_and_another_under_another_name() -> None:
    rows = said([0.1 * number for number in range(9)])
    first, again, other = (figure(Said(), rows, 50, name) for name in ("a", "a", "b"))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_corpus_metrics_are_resampled_as_corpora() -> None:
    rows = [judged("The cat is on the mat.", "The cat sat on the mat.")] * 5
    found = figure(metric("bleu"), rows, 50, "x")
    assert found.low == found.value == found.high, "every resample is the same corpus"
    rows[0] = judged("A dog ran off.", "The cat sat on the mat.")
    found = figure(metric("bleu"), rows, 200, "x")
    assert found.low < found.value < found.high


def test_the_interval_holds_the_value() -> None:
    rows = [judged("a b c d e", "a b c d e"), *[judged("x", "one two three four five six")] * 2]
    found = figure(metric("bleu"), rows, 20, "x")
    assert found.low <= found.value <= found.high


def test_both_at_once_are_the_two_apart() -> None:
    for rows in ([*said([0.5, 0.2]), judged("1", "skip")], said([1, 0, 1])):
        assert measured(Said(), rows, 50, "x") == (
            figure(Said(), rows, 50, "x"),
            per_row(Said(), rows),
        )
    assert measured(Said(), [judged("1", "skip")], 50, "x") == (None, [None])
