"""The picture of a step: an instant counts for the innermost operation."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from timeline import LANES, PYTHON, draw, kind_of, spans_of


def event(name: str, start: float, length: float, thread: int = 1, cat: str = "cpu_op") -> Any:
    return {"ph": "X", "name": name, "ts": start, "dur": length, "tid": thread, "cat": cat}


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    events = [
        event("step 7", 1_000, 10_000, cat="user_annotation"),
        event("step 8", 20_000, 9_000, cat="user_annotation"),
        event("autograd::engine::evaluate_function: MmBackward0", 2_000, 5_000),
        event("aten::mm", 3_000, 2_000),
        event("gloo:all_reduce", 8_000, 1_000),
        event("aten::add", 3_000, 500, thread=2),  # another thread's
        event("aten::mm", 21_000, 2_000),  # the next step's
    ]
    path = tmp_path / "rank_0.json.gz"
    with gzip.open(path, "wt") as file:
        json.dump({"traceEvents": events}, file)
    return path


def test_the_innermost_operation_counts(trace: Path) -> None:
    spans, length = spans_of(trace, "step")
    assert length == pytest.approx(10)
    assert spans["matrix products"] == [(pytest.approx(2), pytest.approx(2))]
    assert spans["other operations"] == [
        (pytest.approx(1), pytest.approx(1)),
        (pytest.approx(4), pytest.approx(2)),
    ]
    assert spans["communication"] == [(pytest.approx(7), pytest.approx(1))]
    assert sum(span[1] for of_kind in spans.values() for span in of_kind) == pytest.approx(length)


def test_the_picture_is_drawn(trace: Path, tmp_path: Path) -> None:
    totals = draw({"before": trace, "after": trace}, "step 7", tmp_path / "timeline.png")
    assert totals["after"][PYTHON] == pytest.approx(4)
    assert (tmp_path / "timeline.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::addmm_", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("aten::_log_softmax", "loss"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("nccl:all_gather", "communication"),
        ("aten::mul", "other operations"),
    ],
)
def test_kinds(name: str, kind: str) -> None:
    assert kind_of(name) == kind
    assert kind in LANES
