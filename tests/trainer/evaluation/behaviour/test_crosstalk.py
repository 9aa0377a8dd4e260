"""Crosstalk by hand-made counts, and what holds for any."""

from __future__ import annotations

from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.seeding import generator
from trainer.evaluation.behaviour import count_behaviours, crosstalk
from trainer.evaluation.results import Figure, wilson

COUNTS = {
    "chat": {"en": {"chat": 9, "qa": 1}},
    "qa": {"en": {"qa": 40, "code": 5, "chat": 3, "mixed": 1, "none": 1}, "zh": {"qa": 50}},
    "code": {"en": {"code": 30, "qa": 10}},
}


def test_hand_made_counts() -> None:
    found = crosstalk(COUNTS, {"chat"}, {"qa": 0.03}, {"qa": [1.0] * 45 + [0.0] * 45, "code": []})
    assert found.tasks == ["qa", "code", "chat"]
    assert found.labels == ["qa", "code", "chat", "mixed", "none"]
    assert found.matrix == [
        [0.9, 0.05, 0.03, 0.01, 0.01],
        [0.25, 0.75, 0, 0, 0],
        [0.1, 0, 0.9, 0, 0],
    ]
    low, high = wilson(0.08, 100)
    assert found.per_task["qa"] == Figure(0.08 - 0.03, low - 0.03, high - 0.03, 100)
    assert found.per_task["code"] == Figure(0.25, *wilson(0.25, 40), 40)
    assert found.per_task.keys() == {"qa", "code"}
    assert found.rate.value == pytest.approx((0.05 + 0.25) / 2)
    assert found.rate.rows == 140
    assert found.polluters == pytest.approx({"qa": 0.25, "code": 0.05, "chat": 0.015})
    assert found.routing == {"qa": 0.9, "code": 0.75}
    assert found.skill == {"qa": 0.5, "code": None}
    assert found.gold_rate == {"qa": 0.03, "code": 0.0}
    assert found.per_language.keys() == {"en", "zh"}
    assert found.per_language["en"].value == pytest.approx((8 / 50 - 0.03 + 0.25) / 2)
    assert found.per_language["zh"].value == 0
    assert found.per_language["zh"].rows == 50


def test_a_rate_below_the_judges_own_error_is_nothing() -> None:
    found = crosstalk({"a": {"": {"a": 98, "b": 2}}}, (), {"a": 0.3}, {})
    assert found.per_task["a"] == Figure(0.0, 0.0, 0.0, 100)


def test_a_behaviour_without_rows_of_its_own_has_a_column() -> None:
    found = crosstalk({"a": {"": {"a": 1, "z": 3}}, "b": {}}, (), {}, {})
    assert found.tasks == ["a"]
    assert found.labels == ["a", "z", "mixed", "none"]
    assert found.matrix == [[0.25, 0.75, 0, 0]]
    assert found.polluters == {"z": 0.75}


def test_without_any_leak_the_upper_end_stays_above_zero() -> None:
    clean = {task: {"": {task: 100}} for task in "abcdefghij"}
    rate = crosstalk(clean, (), {}, {}).rate
    upper = wilson(0, 100)[1]
    assert (rate.value, rate.low) == (0, 0)
    assert rate.high == pytest.approx(upper / np.sqrt(10))


def test_no_specialised_task_no_rate() -> None:
    found = crosstalk({"chat": {"en": {"chat": 3}}}, {"chat"}, {}, {})
    assert found.rate == Figure(0.0, 0.0, 0.0, 0)
    assert found.per_language == {}


def test_the_interval_of_the_mean_is_that_of_a_bootstrap_where_leaks_abound() -> None:
    leaked = {"a": 60, "b": 100, "c": 150}
    rate = crosstalk(
        {task: {"": {task: 300 - k, "z": k}} for task, k in leaked.items()}, (), {}, {}
    ).rate
    draw = generator(0, "bootstrap")
    means = np.mean([draw.binomial(300, k / 300, 20_000) / 300 for k in leaked.values()], axis=0)
    assert (rate.low, rate.high) == pytest.approx(np.percentile(means, [2.5, 97.5]), abs=0.003)


COUNT = st.integers(0, 30)
LABELS = ("a", "b", "c", "mixed", "none")


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c"]),
        st.dictionaries(
            st.sampled_from(["en", "zh"]),
            st.dictionaries(st.sampled_from(LABELS), COUNT, min_size=1),
            min_size=1,
        ),
        min_size=1,
    ),
    st.dictionaries(st.sampled_from(["a", "b"]), st.floats(0, 0.2)),
)
def test_what_holds_for_any_counts(
    counts: dict[str, dict[str, dict[str, int]]], gold_rates: dict[str, float]
) -> None:
    found = crosstalk(counts, {"c"}, gold_rates, {})
    assert all(sum(row) == pytest.approx(1) for row in found.matrix)
    assert all(len(row) == len(found.labels) for row in found.matrix)
    assert len(found.matrix) == len(found.tasks)
    figures = [found.rate, *found.per_task.values(), *found.per_language.values()]
    for figure in figures:
        assert -1e-12 <= figure.low <= figure.value + 1e-12
        assert figure.value - 1e-12 <= figure.high <= 1 + 1e-12
    for task, figure in found.per_task.items():
        row = dict(zip(found.labels, found.matrix[found.tasks.index(task)], strict=True))
        others = 1 - row[task] - row["mixed"] - row["none"]
        assert figure.value == pytest.approx(max(0, others - gold_rates.get(task, 0)), abs=1e-12)
    assert asdict(found)["tasks"] == found.tasks


def test_behaviours_are_counted_by_language() -> None:
    counts = count_behaviours(["qa", "code", "qa", "none"], ["zh", "en", "zh", "en"])
    assert counts == {"en": {"code": 1, "none": 1}, "zh": {"qa": 2}}
    assert list(counts) == ["en", "zh"]
