"""launch/status.py: what the queue and a run's files say, on one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.faults import DataFault
from launch import status
from launch.submission import record
from tests.trainer.test_progress import PLAN, sign, step
from trainer.run_directory import write_json, write_json_lines
from trainer.sweep_record import RunRecord, SweepRecord


@pytest.fixture
def run(tmp_path: Path) -> Path:
    root = tmp_path / "long"
    write_json(root / "plan.json", PLAN)
    write_json_lines(root / "metrics.jsonl", [step(41, "hard", loss=0.75)])
    sign(root, "running")
    record.note(root, [("17", "long-hard"), ("18", "long-end")])
    return root


def squeue(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    program = folder / "bin" / "squeue"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


def test_a_line_tells_state_phase_step_loss_and_jobs(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    squeue(run.parent, monkeypatch, "echo 17 RUNNING; echo 18 PENDING; echo 99 RUNNING")
    status.command([run])
    out = capsys.readouterr().out
    (line,) = [one for one in out.splitlines() if one.strip().startswith("long ")]
    expected = "long running hard 1/20 of 60 0:00:38 0.750 17 RUNNING, 18 PENDING"
    assert " ".join(line.split()) == expected
    assert "long: rank 0 on n1: step 3" in out


def test_a_queue_that_does_not_answer_hides_nothing_else(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    squeue(run.parent, monkeypatch, "echo 'Unable to contact slurm controller' >&2; exit 1")
    status.command([run])
    out = capsys.readouterr().out
    assert "The queue is not known: Unable to contact slurm controller." in out
    assert "1/20 of 60" in out


def test_without_slurm_the_files_tell_the_rest(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    status.command([run])
    assert "0.750" in capsys.readouterr().out


def test_a_sweep_is_its_runs(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")
    runs = [RunRecord(name, name, {}, [], "digest", parent="stem") for name in ("long", "later")]
    stems = [RunRecord("stem", "stem", {}, [], "digest")]
    (run.parent / "stem").mkdir()
    SweepRecord("lr", "grid", [], {}, [], {}, stems, runs).write(run.parent)
    status.command([run.parent])
    lines = [" ".join(one.split()) for one in capsys.readouterr().out.splitlines()]
    assert [one for one in lines if one.startswith(("stem", "long ", "later"))] == [
        "stem not started",
        "long running hard 1/20 of 60 0:00:38 0.750",
        "later not begun",
    ]


def test_a_folder_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="no such directory"):
        status.command([tmp_path / "none"])


def test_a_folder_of_something_else_is_a_fault(tmp_path: Path) -> None:
    """A wrong path must not look like a run that waits."""
    (tmp_path / "run").mkdir()
    with pytest.raises(DataFault, match="nothing of a run is in it"):
        status.command([tmp_path])
