"""A grid trains what is missing and nothing else; runs are pretended."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from pretended import Pretended, pretending

import launch.sweeps.command
import launch.sweeps.grid
from data_modules.faults import ConfigFault, DataFault
from launch.sweeps.command import sweep
from trainer.sweep_record import read_sweep

LR = "curriculum.phases.hard.lr=1e-4,2e-4"
A, B = "runs/lr-0.0001", "runs/lr-0.0002"
STEM = "stems/mix-specialize-1"


@pytest.fixture
def given(small: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides of a sweep whose report is left out."""
    monkeypatch.setattr(launch.sweeps.command, "draw_report", lambda root: True)
    return small


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> type[Pretended]:
    found = pretending(lambda node, phases: 1.0)
    monkeypatch.setattr(launch.sweeps.grid, "Here", found)
    return found


def folders(runner: type[Pretended]) -> list[str]:
    found = [folder for folder, _ in runner.started]
    runner.started.clear()
    return found


def test_phases_in_common_are_trained_once(
    given: list[str], runner: type[Pretended], tmp_path: Path
) -> None:
    assert sweep([*given, LR]) == 0
    assert runner.started == [
        (STEM, ("mix", "specialize")),
        (A, ("mix", "specialize", "hard")),
        (B, ("mix", "specialize", "hard")),
    ]
    root = tmp_path / "sweep"
    record = read_sweep(root)
    assert [(one.folder, one.parent) for one in record.runs] == [(A, STEM), (B, STEM)]
    assert f"resume={root}/{STEM}" in record.runs[0].overrides
    assert "run_name=lr-0.0001" in record.runs[0].overrides
    assert "logging.wandb_group=sweep" in record.runs[0].overrides
    assert not any(one.startswith("resume=") for one in record.stems[0].overrides)


def test_the_same_command_trains_what_is_missing(
    given: list[str], runner: type[Pretended], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runner.codes[B] = -9
    assert sweep([*given, LR]) == 1
    assert folders(runner) == [STEM, A, B]
    assert f"{B}: FAILED with exit code -9, see {tmp_path}/sweep/logs/" in capsys.readouterr().out
    runner.codes.clear()
    assert sweep([*given, LR]) == 0
    assert folders(runner) == [B]
    assert f"{A}: finished before, kept" in capsys.readouterr().out
    assert sweep([*given, LR]) == 0
    assert folders(runner) == []
    # a stem alone is nothing that is missing
    (tmp_path / "sweep" / STEM / "report.html").unlink()
    assert sweep([*given, LR]) == 0
    assert folders(runner) == []
    (tmp_path / "sweep" / A / "report.html").unlink()
    assert sweep([*given, LR]) == 0
    assert folders(runner) == [STEM, A]


def test_what_a_failed_stem_was_for_is_not_started(
    given: list[str], runner: type[Pretended], capsys: pytest.CaptureFixture[str]
) -> None:
    runner.codes[STEM] = 3
    assert sweep([*given, LR]) == 1
    assert folders(runner) == [STEM]
    out = capsys.readouterr().out
    assert f"{B}: FAILED, as {STEM} did" in out
    assert "0 of 2 runs are finished" in out


def test_a_command_that_is_asked_to_leave_starts_nothing_more(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = pretending(lambda node, phases: 1.0, leave_after=2)
    monkeypatch.setattr(launch.sweeps.grid, "Here", runner)
    assert sweep([*given, LR]) == 98
    assert folders(runner) == [STEM, A]
    assert "left because of SIGINT; the same command goes on" in capsys.readouterr().out
    runner.leave_after = None
    assert sweep([*given, LR]) == 0
    assert folders(runner) == [A, B]


def test_another_sweep_is_refused(given: list[str], runner: type[Pretended]) -> None:
    assert sweep([*given, LR]) == 0
    for changed in (["curriculum.phases.hard.lr=1e-4,2e-4,3e-4"], [LR, "optimizer.beta2=0.9"]):
        with pytest.raises(ConfigFault, match=re.escape("was started with: ")) as caught:
            sweep([*given, *changed])
        assert LR in caught.value.faults[0].seen
        assert changed[-1] in caught.value.faults[0].rule
    runner.started.clear()
    # how runs are started is no part of them
    more = ["sweep.at_once=2", "cluster.threads_per_rank=1", "logging.console_seconds=5"]
    assert sweep([*given, LR, *more]) == 0
    assert folders(runner) == []


@pytest.mark.usefixtures("runner")
def test_a_sweep_that_is_composed_of_other_files_is_refused(
    given: list[str], tmp_path: Path
) -> None:
    assert sweep([*given, LR]) == 0
    record = read_sweep(tmp_path / "sweep")
    record.runs[0].made_by = "other"
    record.write(tmp_path / "sweep")
    with pytest.raises(ConfigFault, match="same overrides, but they composed other settings"):
        sweep([*given, LR, "cluster.dry_run=true"])


def test_a_finished_run_whose_configuration_is_gone_is_a_fault(
    given: list[str], runner: type[Pretended], tmp_path: Path
) -> None:
    assert sweep([*given, LR]) == 0
    runner.started.clear()
    path = tmp_path / "sweep" / B / "config.yaml"
    path.write_text("", encoding="utf-8")
    with pytest.raises(DataFault, match="damaged, or gone") as caught:
        sweep([*given, LR])
    assert caught.value.faults[0].where == str(path)
    shutil.rmtree(path.parent)
    assert sweep([*given, LR]) == 0
    assert folders(runner) == [B]


def test_all_runs_are_checked_before_any_is_trained(
    given: list[str], runner: type[Pretended], tmp_path: Path
) -> None:
    wrong = ["zero.stage=1,7", "curriculum.phases.hard.lr=1e-4,-1", "global_batch_size=64"]
    with pytest.raises(ConfigFault) as caught:
        sweep([*given, *wrong])
    told = {one.where: one.seen for one in caught.value.faults}
    assert told == {
        "curriculum.phases.hard.lr (run stage-1-lr--1, stage-7-lr--1)": "-1",
        "zero.stage (run stage-7-lr-0.0001, stage-7-lr--1)": "7",
    }
    assert runner.started == []
    assert not (tmp_path / "sweep/sweep.json").exists()


@pytest.mark.usefixtures("runner")
def test_runs_may_begin_from_another_run(given: list[str], tmp_path: Path) -> None:
    base = tmp_path / "base/checkpoints/step_000001"
    base.mkdir(parents=True)
    assert sweep([*given, LR, f"resume={tmp_path}/base"]) == 0
    record = read_sweep(tmp_path / "sweep")
    assert f"resume={tmp_path}/base" in record.stems[0].overrides
    assert f"resume={tmp_path}/sweep/{STEM}" in record.runs[0].overrides


def test_sharing_may_be_left(given: list[str], runner: type[Pretended]) -> None:
    assert sweep([*given, LR, "sweep.share=false"]) == 0
    assert folders(runner) == [A, B]


@pytest.mark.usefixtures("runner")
def test_runs_at_once_share_the_cores(given: list[str], tmp_path: Path) -> None:
    assert sweep([*given, LR, "sweep.at_once=2"]) == 0
    overrides = read_sweep(tmp_path / "sweep").runs[0].overrides
    assert "cluster.ranks_per_node=1" in overrides
    assert any(re.fullmatch(r"cluster.threads_per_rank=[1-9]\d*", one) for one in overrides)


def test_a_dry_run_says_what_would_be_trained(
    given: list[str],
    runner: type[Pretended],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep([*given, LR, "cluster.dry_run=true"]) == 0
    out = capsys.readouterr().out
    assert f"{B}: to be trained, behind {STEM}" in out
    assert runner.started == []
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("more", "where"),
    [
        (["seed=0"], "command line"),
        (
            ["seed=0,1", "cluster=slurm", "cluster.gpus_per_node=1", "cluster.chain=true"],
            "cluster.chain",
        ),
        (["seed=0,1", "cluster=ssh", "cluster.hostfile=LICENSE"], "cluster.kind"),
        (["seed=0,1", "sweep.at_once=0"], "sweep.at_once"),
        (["seed=0,1", "sweep=search", "evaluation=none"], "evaluation.at_phase_end"),
    ],
)
def test_what_is_no_sweep_is_refused(
    given: list[str], runner: type[Pretended], more: list[str], where: str
) -> None:
    with pytest.raises(ConfigFault) as caught:
        sweep([*given, *more])
    assert [one.where for one in caught.value.faults] == [where]
    assert runner.started == []


def test_two_commands_do_not_work_on_one_sweep(
    given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[str] = []

    def second(_node: object, _phases: object) -> float:
        if not refused:
            with pytest.raises(ConfigFault) as caught:
                sweep([*given, LR])
            refused.append(caught.value.faults[0].seen)
        return 1.0

    runner = pretending(second)
    monkeypatch.setattr(launch.sweeps.grid, "Here", runner)
    assert sweep([*given, LR]) == 0
    assert "worked on by another command" in refused[0]


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    file = tmp_path / "sweep/sweep.json"
    file.parent.mkdir()
    for text in ("{", "[]", json.dumps({"name": "x", "axes": [], "stems": [], "runs": []})):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(DataFault, match=r"sweep\.json: damaged"):
            read_sweep(file.parent)
    with pytest.raises(DataFault, match=r"no sweep\.json"):
        read_sweep(tmp_path)
