"""Evaluation results: Wilson intervals against published values, and a lossless round trip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.results import (
    MIXED,
    NONE,
    ORDINARY,
    Crosstalk,
    Evaluation,
    Figure,
    SetResult,
    TaskResult,
    load,
    save,
    share,
    wilson,
)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        # Newcombe, Statistics in Medicine 17 (1998), table I, method 3 (score without correction)
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # Symmetric around one half; the upper end of none right is z^2 / (n + z^2).
        (5, 10, 0.2366, 0.7634),
        (0, 150, 0.0000, 0.0250),
        (20, 20, 0.8389, 1.0000),
    ],
)
def test_wilson_by_published_values(right: int, n: int, low: float, high: float) -> None:
    assert wilson(right / n, n) == pytest.approx((low, high), abs=5.1e-5)


@given(n=st.integers(1, 5000), data=st.data())
def test_wilson_holds_the_share_and_mirrors(n: int, data: st.DataObject) -> None:
    part = data.draw(st.integers(0, n)) / n
    low, high = wilson(part, n)
    assert 0 <= low <= part + 1e-12
    assert part - 1e-12 <= high <= 1
    assert wilson(1 - part, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    assert wilson(part, 4 * n)[1] - wilson(part, 4 * n)[0] < high - low


def evaluation() -> Evaluation:
    figure = Figure(0.5, 0.2366, 0.7634, 10)
    result = SetResult(
        rows=10,
        raw={"exact_match": Figure(0.25, 0.1, 0.5, 10)},
        processed={"exact_match": figure},
        truncated=3,
        in_format=share(9, 10),
        in_format_processed=share(10, 10),
        behaviours={"en": {"qa": 6, "chat": 1, NONE: 3}},
    )
    crosstalk = Crosstalk(
        tasks=["qa", "chat"],
        labels=["qa", "chat", MIXED, NONE],
        matrix=[[0.6, 0.1, 0.0, 0.3], [0.0, 1.0, 0.0, 0.0]],
        rate=share(1, 10),
        per_task={"qa": share(1, 10)},
        per_language={"en": share(1, 10)},
        polluters={"qa": 0.0, "chat": 0.1},
        routing={"qa": 0.6},
        skill={"qa": None},
        gold_rate={"qa": 0.0},
    )
    return Evaluation(
        {
            "qa": TaskResult(10, 1.25, False, "exact_match", {ORDINARY: result}, 0.1 + 0.2),
            "chat": TaskResult(7, 0.1 + 0.2, True),
        },
        {ORDINARY: crosstalk},
        {"qa": {"qa": -0.125, "chat": 0.125}},
    )


def test_the_score_is_the_main_metric_on_ordinary_requests() -> None:
    qa, chat = evaluation().tasks.values()
    assert qa.score == Figure(0.5, 0.2366, 0.7634, 10)
    assert qa.score_on("conflict") is None
    assert chat.score is None
    assert list(evaluation().special) == ["qa"]
    assert list(evaluation().general) == ["chat"]


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "phases" / "mix" / "evaluation.json"
    save(path, evaluation())
    assert load(path) == evaluation()
    assert list(load(path).tasks) == ["qa", "chat"]


def test_the_file_can_be_read_without_us(tmp_path: Path) -> None:
    save(tmp_path / "e.json", evaluation())
    stored = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    qa = stored["tasks"]["qa"]
    assert {name: qa[name] for name in ("rows", "loss", "general", "metric")} == {
        "rows": 10,
        "loss": 1.25,
        "general": False,
        "metric": "exact_match",
    }
    assert qa["sets"]["ordinary"]["processed"]["exact_match"] == {
        "value": 0.5,
        "low": 0.2366,
        "high": 0.7634,
        "rows": 10,
    }
    assert stored["crosstalk"]["ordinary"]["matrix"][0] == [0.6, 0.1, 0.0, 0.3]
