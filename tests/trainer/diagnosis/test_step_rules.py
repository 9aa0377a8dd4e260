"""Steps that the guard found bad: how many, which rows, what to try."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.trainer.diagnosis.made_run import STEPS, MadeRun, found_by, missing_of
from trainer.diagnosis import Severity
from trainer.diagnosis.rules.steps import BadSteps


def bad(step: int, kind: str = "non-finite loss", action: str = "skip", **row: Any) -> dict:
    """A line of ``faults.jsonl``, with one row."""
    full = {"task": "math", "row_id": "m-1", "row_key": "0f", "origin": "train/math.jsonl:7"}
    return {
        "step": step,
        "phase": "mix",
        "kind": kind,
        "action": action,
        "why": "the loss is nan",
        "rows": [full | {"loss": "nan"} | row],
    }


def test_a_sound_run_has_none(tmp_path: Path) -> None:
    assert found_by(BadSteps(), MadeRun(), tmp_path) == []


def test_rows_that_did_it_are_named_and_left_out(tmp_path: Path) -> None:
    run = MadeRun("data.cleaning.drop=[old]")
    run.faults = [bad(3), bad(9), bad(9), bad(20, row_id="m-2", origin="train/math.jsonl:9")]
    (found,) = found_by(BadSteps(), run, tmp_path)
    assert found.title == "3 bad steps in phase 'mix'"
    assert found.severity is Severity.high
    assert found.overrides == ["data.cleaning.drop=[old,m-1,m-2]"]
    assert found.tasks == ["math"]
    assert f"3 of {STEPS} steps: 3 non-finite loss (skip); first in step 3" in found.evidence[0]
    assert "math train/math.jsonl:7, math train/math.jsonl:9" in found.evidence[1]


@pytest.mark.parametrize(
    ("entry", "override"),
    [
        (bad(5, "non-finite gradient", loss=2.0), "curriculum.phases.mix.lr=0.00033"),
        (bad(5, "loss spike", "warn", loss=9.0), "faults.spike=skip"),
        (bad(5, "loss spike", "rollback", loss=9.0), "curriculum.phases.mix.lr=0.00033"),
        (bad(5, row_id="", loss="nan"), "curriculum.phases.mix.lr=0.00033"),
    ],
)
def test_where_no_row_stands_out(tmp_path: Path, entry: dict[str, Any], override: str) -> None:
    run = MadeRun()
    run.faults = [entry]
    (found,) = found_by(BadSteps(), run, tmp_path)
    assert found.overrides[0] == override
    assert found.severity is Severity.medium


def test_one_step_of_many_is_an_accident(tmp_path: Path) -> None:
    run = MadeRun()
    run.lengths["mix"] = 1000
    run.faults = [bad(5)]
    (found,) = found_by(BadSteps(), run, tmp_path)
    assert found.severity is Severity.low


def test_a_run_without_steps_says_so(tmp_path: Path) -> None:
    run = MadeRun()
    run.steps = {phase: [] for phase in run.steps}
    assert "no step" in missing_of(BadSteps(), run, tmp_path)
