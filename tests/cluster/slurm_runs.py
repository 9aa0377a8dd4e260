"""Runs of the cluster's tests: one small curriculum, and how far it is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import gated_train
from gated_train import Gates
from kill_matrix import Result, overrides, result_of
from launching import steps_of
from machines import wait_until
from slurm_cluster import ENDED, REPOSITORY, SlurmCluster

STEPS = 21  # three phases of seven
#: A machine that is busy with other things takes so long for a start, at worst.
START_S = 300


def small_run(root: Path, name: str, *more: str) -> list[str]:
    """Overrides of a run of 21 steps with a checkpoint every other step; the last one wins."""
    return overrides(
        root,
        name,
        "evaluation.every_steps=null",
        "evaluation.generate=false",
        "evaluation.train_rows=0",
        "interference.every_steps=null",
        # a busy machine is no lost rank
        "cluster.heartbeat_s=2",
        "cluster.stall_timeout_s=60",
        "cluster.process_group_timeout_s=240",
        *more,
    )


class SlurmRun:
    """A small run that is submitted as jobs on two nodes, a rank each, and stands still at gates."""

    def __init__(self, slurm: SlurmCluster, root: Path, name: str, *more: str) -> None:
        self.slurm, self.folder = slurm, root / name
        self.folder.mkdir()
        self.gates = Gates(self.folder / "gates")
        self._given = [
            *small_run(root, name),
            "cluster=slurm",
            "cluster.nodes=2",
            "cluster.gpus_per_node=0",
            "cluster.ranks_per_node=1",
            'cluster.time="01:00:00"',
            f"cluster.wrap=[{sys.executable},{gated_train.__file__}]",
            f"cluster.environment.{gated_train.VARIABLE}={self.gates.folder}",
            *more,
        ]

    def submit(self) -> list[int]:
        """Call ``launch/submit.py`` and give back the jobs that it tells."""
        script = str(REPOSITORY / "launch/submit.py")
        told = self.slurm.run(sys.executable, script, *self._given, timeout=START_S)
        numbers = [int(one) for one in re.findall(r"^job (\d+): ", told, re.MULTILINE)]
        assert numbers, told
        return numbers

    def status(self) -> str:
        """What ``launch/status.py`` tells."""
        script = str(REPOSITORY / "launch/status.py")
        return self.slurm.run(sys.executable, script, str(self.folder), timeout=START_S)

    def wait_at(self, step: int, job: int) -> None:
        """Wait until a job has come to a closed gate."""
        self.slurm.wait_until_there(self.gates.reached(step), job, START_S)

    def wait_for_words(self, words: str, times: int, job: int) -> None:
        """Wait until a job has printed something so many times."""

        def printed() -> bool:
            assert self.slurm.state(job) not in ENDED, self.slurm.story(job)
            return self.log(job).count(words) >= times

        wait_until(printed, START_S, lambda: self.slurm.story(job))

    @property
    def newest_step(self) -> int:
        """The last step in the metrics."""
        return int(steps_of(self.folder)[-1]["step"])

    def log(self, job: int) -> str:
        """What a job printed, over all its turns."""
        path = self.folder / f"log/slurm-{job}.out"
        return path.read_text(encoding="utf-8", errors="replace")

    def assert_same(self, undisturbed: Path) -> None:
        """It is another run by bits: metrics, weights, moments, exports, evaluations."""
        got, want = result_of(self.folder), result_of(undisturbed)
        for part in Result.__dataclass_fields__:
            assert getattr(got, part) == getattr(want, part), f"{part} of {self.folder}"
        assert [one["step"] for one in steps_of(self.folder)] == list(range(1, STEPS + 1))
