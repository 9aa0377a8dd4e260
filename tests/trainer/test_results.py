"""Evaluation results: Wilson intervals against published values, and a lossless round trip."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.evaluation.results import TaskResult, load, save, wilson


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
    share = data.draw(st.integers(0, n)) / n
    low, high = wilson(share, n)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    assert wilson(1 - share, n) == pytest.approx((1 - high, 1 - low), abs=1e-9)
    assert wilson(share, 4 * n)[1] - wilson(share, 4 * n)[0] < high - low


def test_results_have_an_interval_where_they_were_judged() -> None:
    assert TaskResult(10, 1.0, False, 0.5).accuracy_interval == pytest.approx(
        (0.2366, 0.7634), abs=1e-4
    )
    assert TaskResult(10, 1.0, False).accuracy_interval is None


def test_round_trip(tmp_path: Path) -> None:
    results = {
        "qa": TaskResult(148, 1.25, False, 15 / 148, 3, 140 / 148),
        "chat": TaskResult(7, 0.1 + 0.2, True),
    }
    path = tmp_path / "phases" / "mix" / "evaluation.json"
    save(path, results)
    assert load(path) == results
    assert list(load(path)) == ["qa", "chat"]


def test_the_file_can_be_read_without_us(tmp_path: Path) -> None:
    save(tmp_path / "e.json", {"qa": TaskResult(10, 1.25, False, 0.5, 3, 0.9)})
    stored = json.loads((tmp_path / "e.json").read_text(encoding="utf-8"))
    interval = stored["tasks"]["qa"].pop("accuracy_interval")
    assert interval == pytest.approx([0.2366, 0.7634], abs=1e-4)
    assert stored == {
        "tasks": {
            "qa": {
                "rows": 10,
                "loss": 1.25,
                "general": False,
                "accuracy": 0.5,
                "truncated": 3,
                "in_format": 0.9,
            }
        }
    }
