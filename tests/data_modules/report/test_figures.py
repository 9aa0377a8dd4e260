"""Figures read off a report's counts."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from data_modules.report import LENGTH_EDGES, QUALITY_EDGES
from data_modules.report.figures import (
    lengths,
    merged,
    most_first,
    percentile,
    readable_rows,
    rule_counts,
    sample_rows,
    shares,
)
from data_modules.report.visible import excerpt, visible
from tests.data_modules.report.made_report import clean_report, histogram, task_report


def test_edges_rise_and_reach_any_length() -> None:
    for edges in (LENGTH_EDGES, QUALITY_EDGES):
        assert all(low < high for low, high in pairwise(edges))
    assert LENGTH_EDGES[0] == 0
    assert LENGTH_EDGES[-1] == 2**20
    assert (QUALITY_EDGES[0], QUALITY_EDGES[-1]) == (0, 1)


@pytest.mark.parametrize("part", [0.05, 0.5, 0.95, 0.99])
def test_percentiles_are_near_the_exact_ones(part: float) -> None:
    draw = random.Random(3)
    values = sorted(float(int(draw.lognormvariate(5, 0.8))) for _ in range(4000))
    exact = values[int(part * len(values))]
    assert percentile(histogram(values), part) == pytest.approx(exact, rel=0.05)


def test_percentiles_of_nothing_and_of_one_value() -> None:
    assert percentile(histogram([]), 0.5) is None
    found = percentile(histogram([100.0]), 0.95)
    assert found is not None
    assert 90 <= found <= 107
    assert lengths(task_report(0)) == (None, None)


def test_rows_add_up() -> None:
    task = task_report(
        read=120, unreadable=5, not_selected=5, kept=100, rejects={"a": 7, "b": 3}, overlong=4,
        all_masked=1,
    )  # fmt: skip
    assert readable_rows(task) == 110
    assert sample_rows(task) == 95
    report = clean_report(qa=task)
    assert rule_counts(report) == {"a": 7, "b": 3}
    assert sum(shares(report, sample_rows).values()) == pytest.approx(1)
    assert set(shares(report, lambda task: 0).values()) == {0.0}


def test_counts_are_ordered_and_merged() -> None:
    assert list(most_first({"b": 2, "c": 0, "a": 2, "d": 9}).items()) == [
        ("d", 9),
        ("a", 2),
        ("b", 2),
    ]
    both = merged([histogram([1.0, 5.0]), histogram([5.0])])
    assert both == histogram([1.0, 5.0, 5.0])


def test_invisible_characters_are_named() -> None:
    assert visible("a\u200bb\x1b[31m\ud800\u202e\r") == (
        "a⟨U+200B⟩b⟨U+001B⟩[31m⟨U+D800⟩⟨U+202E⟩⟨U+000D⟩"
    )
    assert visible("一\n\té\u00a0") == "一\n\té\u00a0"


def test_long_text_is_cut_with_its_length_said() -> None:
    assert excerpt("x" * 10, 10) == "x" * 10
    assert excerpt("x" * 12_345, 10) == "xxxxxxxxxx … [10 of 12,345 characters]"
