"""Runs of the cluster's tests: one small curriculum, and how far it is."""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

from kill_matrix import Result, overrides, result_of
from launching import steps_of
from slurm_cluster import REPOSITORY, SlurmCluster

HERE = Path(__file__).resolve().parent
STEPS = 21  # three phases of seven
#: Ranks watch each other's signs of life; a busy machine is no lost rank.
WATCH = (
    "cluster.heartbeat_s=2",
    "cluster.stall_timeout_s=60",
    "cluster.process_group_timeout_s=240",
)
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
        "interference=none",
        *WATCH,
        *more,
    )


def on_slurm(*more: str) -> list[str]:
    """Overrides that make it a job on two nodes with a rank each, and its steps slow enough to meet."""
    return [
        "cluster=slurm",
        "cluster.nodes=2",
        "cluster.gpus_per_node=0",
        "cluster.ranks_per_node=1",
        'cluster.time="00:20:00"',
        f"cluster.wrap=[{sys.executable},{HERE / 'slow_train.py'}]",
        *WATCH,
        *more,
    ]


def submit(slurm: SlurmCluster, given: list[str]) -> list[int]:
    """Call ``launch/submit.py`` and give back the jobs that it tells."""
    words = (sys.executable, str(REPOSITORY / "launch/submit.py"), *given)
    told = slurm.run(*words, folder=REPOSITORY, timeout=START_S)
    numbers = [int(one) for one in re.findall(r"^job (\d+): ", told, re.MULTILINE)]
    assert numbers, told
    return numbers


def wait_for_step(slurm: SlurmCluster, job: int, run: Path, step: int) -> None:
    """Wait until a running job has trained a step."""
    deadline = time.monotonic() + START_S
    metrics = run / "metrics.jsonl"
    while not metrics.is_file() or not any(one["step"] >= step for one in steps_of(run)):
        state = slurm.state(job)
        assert state in ("RUNNING", "PENDING", "COMPLETING"), slurm.story(job)
        assert time.monotonic() < deadline, slurm.story(job)
        time.sleep(0.1)


def assert_same(run: Path, undisturbed: Path) -> None:
    """A run is another one by bits: metrics, weights, moments, exports, evaluations."""
    got, want = result_of(run), result_of(undisturbed)
    for part in Result.__dataclass_fields__:
        assert getattr(got, part) == getattr(want, part), f"{part} of {run}"
    assert [one["step"] for one in steps_of(run)] == list(range(1, STEPS + 1))


def log_of(run: Path, job: int) -> str:
    """What a job printed, over all its turns."""
    return (run / f"log/slurm-{job}.out").read_text(encoding="utf-8", errors="replace")
