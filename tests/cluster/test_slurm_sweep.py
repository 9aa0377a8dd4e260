"""A sweep of six runs through a real SLURM, two at a time; one of them is killed."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from slurm_cluster import REPOSITORY, SlurmCluster
from slurm_runs import START_S, small_run

from trainer.checkpoint.folder import checkpoints
from trainer.run_directory import RunDirectory
from trainer.sweep_record import SweepRecord, read_sweep

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3000)]

LR, ORDER = "curriculum.phases.hard.lr=1e-3,2e-3,3e-3", "curriculum.phases.hard.order=mixed,grouped"
STEM_STEPS = 14  # mix and specialize, of seven steps each


class Queue:
    """Looks at the queue for as long as a sweep is under way; kills one of its runs.

    Attributes:
        most: tasks that were running at the same time.
    """

    def __init__(self, slurm: SlurmCluster, folder: Path, kill: str | None = None) -> None:
        self.slurm, self.folder, self.kill = slurm, folder, kill
        self.most = 0
        self._ends = threading.Event()

    def watch(self) -> None:
        while not self._ends.wait(0.5):
            told = self.slurm.run("squeue", "--noheader", "--array", "--format=%i %T")
            running = [line.split()[0] for line in told.splitlines() if line.endswith("RUNNING")]
            self.most = max(self.most, len(running))
            job = self._job() if self.kill else None
            if job in running:
                self.slurm.run("scancel", "--signal=KILL", str(job))
                self.kill = None

    def _job(self) -> str | None:
        """The job of the run that is to be killed, once it trains."""
        if not (self.folder / "sweep.json").is_file():
            return None
        found = read_sweep(self.folder).find(str(self.kill))
        metrics = self.folder / str(self.kill) / "metrics.jsonl"
        return found.job if found is not None and metrics.is_file() else None

    def end(self) -> None:
        self._ends.set()


def sweep(slurm: SlurmCluster, root: Path, queue: Queue) -> subprocess.CompletedProcess[str]:
    """Call ``launch/submit.py -m`` while the queue is looked at."""
    plain = [one for one in small_run(root, "unused") if not one.startswith("output_dir=")]
    given = [
        *plain,
        "cluster=slurm",
        "cluster.nodes=1",
        "cluster.gpus_per_node=0",
        "cluster.ranks_per_node=1",
        "cluster.cpus_per_node=1",
        "cluster.retries=0",
        'cluster.time="01:00:00"',
        f"sweep.directory={queue.folder}",
        "sweep.at_once=2",
        "sweep.poll_s=1",
        "sweep.objectives=[loss]",
        *(LR, ORDER),
    ]
    script = str(REPOSITORY / "launch/submit.py")
    with ThreadPoolExecutor(1) as pool:
        watching = pool.submit(queue.watch)
        try:
            done = slurm.attempt(sys.executable, script, "-m", *given, timeout=8 * START_S)
        finally:
            queue.end()
        watching.result()
    return done


def finished_at(record: SweepRecord, folder: Path) -> dict[str, float]:
    """When the reports of the finished runs were written."""
    pages = {one.folder: RunDirectory(folder / one.folder).report for one in record.runs}
    return {name: page.stat().st_mtime for name, page in pages.items() if page.is_file()}


def test_a_killed_run_is_all_that_the_same_command_trains(slurm: SlurmCluster, root: Path) -> None:
    folder = root / "sweep"
    victim = "runs/lr-0.002-order-mixed"
    queue = Queue(slurm, folder, victim)
    first = sweep(slurm, root, queue)
    assert first.returncode == 1, first.stdout + first.stderr
    # whether it had time to save depends on where it was
    assert re.search(rf"^{victim}: (FAILED|preempted)", first.stdout, re.MULTILINE)
    assert "5 of 6 runs are finished" in first.stdout
    assert queue.kill is None, "the run was killed"
    assert queue.most == 2, "two at a time, and no more"
    record = read_sweep(folder)
    before = finished_at(record, folder)
    assert sorted(before) == sorted(one.folder for one in record.runs if one.folder != victim)

    # phases in common were trained once: by the stem, whose steps no run has trained again
    (stem,) = record.stems
    assert stem.phases == ["mix", "specialize"]
    for one in record.runs:
        steps = [
            int(path.name.removeprefix("step_"))
            for path in checkpoints(folder / one.folder / "checkpoints")
        ]
        assert one.parent == stem.folder
        assert min(steps, default=STEM_STEPS + 1) > STEM_STEPS

    time.sleep(1.1)  # a report that is written again has another time
    second = sweep(slurm, root, Queue(slurm, folder))
    assert second.returncode == 0, second.stdout + second.stderr
    assert "6 of 6 runs are finished" in second.stdout
    assert second.stdout.count("finished before, kept") == 6  # five runs and the stem
    now = read_sweep(folder)
    changed = [
        one.folder for one, was in zip(now.runs, record.runs, strict=True) if one.job != was.job
    ]
    assert changed == [victim]
    assert now.stems[0].job == stem.job
    after = finished_at(now, folder)
    assert {name: after[name] for name in before} == before
    assert "6 of 6 runs of a grid have figures" in (folder / "sweep.html").read_text("utf-8")
    assert (folder / "sweep.png").stat().st_size > 20_000
