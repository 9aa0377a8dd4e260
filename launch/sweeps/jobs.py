"""Runs of a sweep as SLURM's jobs: arrays of so many at a time, or one by one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

from data_modules.faults import ConfigFault
from launch.submission import record, slurm
from launch.submission.job import ArrayJob, Job, job_overrides
from launch.sweeps.here import Ended
from launch.sweeps.nodes import Node
from trainer.run_directory import write_text
from trainer.sweep_record import RunRecord, SweepRecord

_LATE_S = 5.0  # a shared file system may show another host's files so much later


def queued(sweep: SweepRecord) -> dict[str, str]:
    """Folder -> job of every run and stem that waits or runs."""
    known = {one.folder: one.job for one in (*sweep.stems, *sweep.runs) if one.job is not None}
    states = slurm.states(known.values())
    return {folder: job for folder, job in known.items() if job in states}


def submit_missing(
    sweep: SweepRecord,
    todo: Sequence[Node],
    depths: Mapping[str, int],
    under: Sequence[str],
    at_once: int,
) -> None:
    """Submit runs and stems: an array per depth of the tree, stems first.

    Every array waits for the one before, so that no more runs than asked for train at a time. It starts
    however that one ended: what a failed stem was for fails by itself and says why.

    Args:
        depths: of all of the sweep.
        under: jobs of the sweep that are in the queue.
    """
    behind = sorted({int(job.split("_")[0]) for job in under})
    for depth in sorted({depths[one.folder] for one in todo}):
        level = [one for one in todo if depths[one.folder] == depth]
        array = _array(sweep.name, level, at_once, behind)
        number = slurm.submit(array)
        for task, node in enumerate(level):
            found = sweep.find(node.folder)
            assert found is not None, "every node has a record"
            found.job = f"{number}_{task}"
            record.note(node.run, [(found.job, array.name)])
        sweep.write(level[0].root)  # at once: what is submitted must not be submitted again
        behind = [number]
        print(f"job {number}: {len(level)} runs, {at_once} at a time: {_names(level)}", flush=True)


def _array(name: str, level: Sequence[Node], at_once: int, behind: Sequence[int]) -> ArrayJob:
    root = level[0].root
    number = 1
    while (folder := root / "jobs" / str(number)).exists():
        number += 1
    for task, node in enumerate(level):
        lines = "".join(f"{one}\0" for one in job_overrides(node.overrides))
        write_text(folder / f"{task}.args", lines)
    return ArrayJob(
        name,
        folder,
        len(level),
        at_once,
        root / "logs",
        level[0].config.cluster,
        tuple(behind),
        after_any=True,
    )


def _names(nodes: Sequence[Node]) -> str:
    names = [one.name for one in nodes]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def depths_of(nodes: Sequence[Node]) -> dict[str, int]:
    """Folder -> how many stems a node goes on from, one behind the other."""
    depths: dict[str, int] = {}
    for one in nodes:  # parents come first
        depths[one.folder] = 0 if one.parent is None else depths[one.parent] + 1
    return depths


class Jobs:
    """Starts runs one by one as jobs, and waits for them.

    A run whose job is in the queue already, from an earlier start of the sweep, is waited for.
    """

    def __init__(self, sweep: SweepRecord, at_once: int, poll_s: float) -> None:
        self.sweep, self.at_once, self.poll_s = sweep, at_once, poll_s
        self._under: dict[str, tuple[Node, str, float]] = {}

    @property
    def has_room(self) -> bool:
        return len(self._under) < self.at_once

    @property
    def is_idle(self) -> bool:
        return not self._under

    def start(self, node: Node) -> str:
        """Submit a run, unless it is queued; its job."""
        found = self.sweep.find(node.folder)
        job = None if found is None else found.job
        if job is None or job not in slurm.states([job]):
            name = f"{self.sweep.name}-{node.name}"
            cluster = node.config.cluster
            overrides = tuple(job_overrides(node.overrides))
            job = str(slurm.submit(Job(name, overrides, node.run, cluster)))
            record.note(node.run, [(job, name)])
        self._under[node.folder] = (node, job, time.monotonic())
        return job

    def watch(self, nodes: Sequence[Node]) -> None:
        """Wait for runs that were submitted together."""
        for node in nodes:
            found = self.sweep.find(node.folder)
            assert found is not None, node.folder
            assert found.job is not None, node.folder
            self._under[node.folder] = (node, found.job, time.monotonic())

    def wait(self, leaves: Callable[[], bool] = lambda: False) -> list[Ended]:
        """Wait until at least one run has left the queue.

        Args:
            leaves: asked now and then; where it says so, nothing is waited for any more, and the jobs stay.
        """
        while self._under and not leaves():
            try:
                states = slurm.states(job for _, job, _ in self._under.values())
            except ConfigFault as fault:  # a busy controller: sweeps live for days
                print(f"the queue is not known: {fault.faults[0].seen}; asked again", flush=True)
                _sleep(max(self.poll_s, 5.0), leaves)
                continue
            gone = [one for one in self._under.values() if one[1] not in states]
            if gone:
                for node, _, _ in gone:
                    del self._under[node.folder]
                now = time.monotonic()
                return [Ended(one, code_of(one, job), now - since) for one, job, since in gone]
            _sleep(self.poll_s, leaves)
        self._under.clear()
        return []


def code_of(node: Node, job: str) -> int | None:
    """The exit code that a job's script left with; None where it was ended before it could tell."""
    try:
        return int((node.run / "slurm" / f"ended-{job}").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _sleep(seconds: float, leaves: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and not leaves():
        time.sleep(min(0.2, seconds))


def comes_to_its_end(node: Node) -> bool:
    """Whether a run whose job has left the queue is finished; late news of other hosts are waited for."""
    end = time.monotonic() + _LATE_S
    while not node.is_finished:
        if time.monotonic() > end:
            return False
        time.sleep(0.5)
    return True


def log_of(node: Node, found: RunRecord | None) -> str:
    """Where what a job printed is."""
    if found is None or found.job is None:
        return "its log"
    if "_" in found.job:
        return str(node.root / "logs" / f"slurm-{found.job}.out")
    return str(node.run / "log" / f"slurm-{found.job}.out")
