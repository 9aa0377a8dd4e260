"""Runs of a sweep as jobs: what is submitted, and what is not submitted again; SLURM is pretended."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
from pretended import finish

import launch.sweeps.command
import launch.sweeps.jobs
from launch.submission import record as jobs_record
from launch.submission.job import ArrayJob, Job
from launch.sweeps.command import sweep
from launch.sweeps.jobs import Jobs
from launch.sweeps.nodes import Node
from trainer.config.schema import ClusterConfig, Config
from trainer.sweep_record import SweepRecord, read_sweep

A, B, STEM = "runs/lr-0.0001", "runs/lr-0.0002", "stems/mix-specialize-1"


class Slurm:
    """Takes jobs; tells which of them are in the queue."""

    def __init__(self) -> None:
        self.jobs: list[Job | ArrayJob] = []
        self.queue: dict[str, str] = {}

    def submit(self, job: Job | ArrayJob) -> int:
        self.jobs.append(job)
        number = 100 + len(self.jobs)
        tasks = range(job.count) if isinstance(job, ArrayJob) else [None]
        for task in tasks:
            self.queue[str(number) if task is None else f"{number}_{task}"] = "PENDING"
        return number

    def states(self, ids: Iterable[int | str]) -> dict[str, str]:
        wanted = {str(one) for one in ids}
        return {job: state for job, state in self.queue.items() if job in wanted}


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> Slurm:
    found = Slurm()
    monkeypatch.setattr(launch.sweeps.jobs, "slurm", found)
    monkeypatch.setattr(launch.sweeps.jobs, "_LATE_S", 0.0)
    return found


@pytest.fixture
def given(small: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(launch.sweeps.command, "draw_report", lambda root: True)
    return [
        *small,
        *("cluster=slurm", "cluster.gpus_per_node=0", "cluster.ranks_per_node=1"),
        *("sweep.at_once=3", "sweep.wait=false", "curriculum.phases.hard.lr=1e-4,2e-4"),
    ]


def trained(monkeypatch: pytest.MonkeyPatch, given: list[str], *folders: str) -> None:
    """Leave runs as if their jobs had trained them."""

    nodes: list[Node] = []
    with monkeypatch.context() as patch:
        patch.setattr(
            "launch.sweeps.grid._as_jobs", lambda sweep, found, settings: nodes.extend(found) or 0
        )
        sweep(given)
    for node in nodes:
        if node.folder in folders:
            finish(node, 1.0)


def test_stems_are_an_array_and_what_is_behind_them_the_next(
    given: list[str], slurm: Slurm, tmp_path: Path
) -> None:
    assert sweep(given) == 0
    stems, runs = slurm.jobs
    assert isinstance(stems, ArrayJob)
    assert isinstance(runs, ArrayJob)
    assert (stems.count, stems.at_once, stems.after) == (1, 3, ())
    assert (runs.count, runs.at_once, runs.after, runs.after_any) == (2, 3, (101,), True)
    record = read_sweep(tmp_path / "sweep")
    assert [one.job for one in (*record.stems, *record.runs)] == ["101_0", "102_0", "102_1"]
    for task, one in enumerate(record.runs):
        lines = (runs.folder / f"{task}.args").read_text("utf-8").split("\0")[:-1]
        assert lines == one.overrides
        assert jobs_record.jobs_of(tmp_path / "sweep" / one.folder)[0].job == f"102_{task}"


def test_what_is_queued_or_finished_is_not_submitted_again(
    given: list[str], slurm: Slurm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sweep(given) == 0
    assert sweep(given) == 0
    assert len(slurm.jobs) == 2
    trained(monkeypatch, given, STEM, A)
    # the other one's job is gone: it was killed
    slurm.queue.clear()
    assert sweep(given) == 0
    again = slurm.jobs[-1]
    assert isinstance(again, ArrayJob)
    assert (len(slurm.jobs), again.count, again.after) == (3, 1, ())
    overrides = (again.folder / "0.args").read_text("utf-8").split("\0")[:-1]
    assert f"resume={tmp_path}/sweep/{STEM}" in overrides
    assert [one.job for one in read_sweep(tmp_path / "sweep").runs] == ["102_0", "103_0"]
    trained(monkeypatch, given, B)
    slurm.queue.clear()
    assert sweep([*given, "sweep.wait=true"]) == 0
    assert len(slurm.jobs) == 3


def test_a_new_array_waits_for_what_is_still_queued(given: list[str], slurm: Slurm) -> None:
    assert sweep(given) == 0
    del slurm.queue["102_1"]
    assert sweep(given) == 0
    assert slurm.jobs[-1].after == (101, 102)


def test_a_command_that_waits_tells_what_failed(
    given: list[str],
    slurm: Slurm,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert sweep(given) == 0
    trained(monkeypatch, given, STEM, A)
    monkeypatch.setattr(slurm, "states", lambda ids: {})
    assert sweep([*given, "sweep.wait=true"]) == 1
    out = capsys.readouterr().out
    assert f"{B}: FAILED, see {tmp_path}/sweep/logs/slurm-103_0.out" in out
    assert "1 of 2 runs are finished" in out


def test_jobs_one_by_one(tmp_path: Path, slurm: Slurm) -> None:
    node = Node(
        tmp_path, "runs/a", {}, ("seed=1", "cluster.dry_run=false"), Config(cluster=ClusterConfig())
    )
    sweep_record = SweepRecord("s", "search", [], {}, [], {"mean": "maximize"}, [], [node.record()])
    jobs = Jobs(sweep_record, 1, 0.01)
    assert jobs.start(node) == "101"
    assert not jobs.has_room
    (job,) = slurm.jobs
    assert isinstance(job, Job)
    assert (job.name, job.overrides, job.run) == ("s-a", ("seed=1",), tmp_path / "runs/a")
    # another start of the search finds it in the queue
    sweep_record.runs[0].job = "101"
    later = Jobs(sweep_record, 1, 0.01)
    assert later.start(node) == "101"
    assert len(slurm.jobs) == 1
    slurm.queue.clear()
    (ended,) = later.wait()
    assert (ended.node, ended.code) == (node, None)
    assert later.is_idle
    assert jobs.start(node) == "102", "the job has ended without the run"
    assert jobs.wait(lambda: True) == []
    assert jobs.is_idle
