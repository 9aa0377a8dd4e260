"""Jobs of a real SLURM that are interrupted in the middle of training come back by themselves."""

from __future__ import annotations

from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster
from slurm_runs import (
    START_S,
    assert_same,
    log_of,
    on_slurm,
    small_run,
    submit,
    wait_for_step,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


def rank_pids(slurm: SlurmCluster, node: str) -> list[str]:
    """Processes of a node that train."""
    lines = slurm.on_node(node, "ps", "-eo", "pid,args").splitlines()
    words = [line.split(None, 2) for line in lines]
    return [one[0] for one in words if len(one) > 2 and "-u" in one[2].split()[:1]]


def test_asked_to_leave(slurm: SlurmCluster, undisturbed: Path, root: Path) -> None:
    run = root / "asked"
    (job,) = submit(
        slurm,
        [*small_run(root, run.name), *on_slurm("cluster.partition=low", "cluster.retries=1")],
    )
    name = str(job)

    def preempt() -> None:
        other = slurm.sbatch(
            "--nodes=3", "--exclusive", f"--output={root}/other", "--wrap", "sleep 1"
        )
        slurm.wait_for(other, timeout=START_S)

    def kill_a_rank() -> None:
        node = slurm.job(job)["BatchHost"]
        slurm.on_node(node, "kill", "-KILL", rank_pids(slurm, node)[0])

    acts = {
        3: lambda: slurm.run("scancel", "--batch", "--signal=USR1", name),
        6: lambda: slurm.run("scancel", "--signal=USR1", name),
        9: preempt,
        12: lambda: slurm.run("scontrol", "requeue", name),
        15: kill_a_rank,
    }
    for restarts, (step, act) in enumerate(acts.items()):
        slurm.wait_for_start(job, restarts, timeout=START_S)
        wait_for_step(slurm, job, run, step)
        act()
        slurm.wait_for_start(job, restarts + 1, timeout=START_S)
    ended = slurm.wait_for(job, "COMPLETED", timeout=2 * START_S)
    assert (ended["ExitCode"], ended["Restarts"]) == ("0:0", str(len(acts)))
    assert log_of(run, job).count("Resumes behind step") == len(acts)
    assert_same(run, undisturbed)


def test_a_node_crashes_and_another_is_cut_off(
    slurm: SlurmCluster, undisturbed: Path, root: Path
) -> None:
    run = root / "lost"
    (job,) = submit(slurm, [*small_run(root, run.name), *on_slurm("cluster.retries=0")])
    slurm.wait_for_start(job, 0)
    wait_for_step(slurm, job, run, 5)
    slurm.kill_node("n2")
    slurm.wait_for_start(job, 1, timeout=START_S)
    slurm.start_node("n2")
    host = slurm.job(job)["BatchHost"]
    wait_for_step(slurm, job, run, 12)
    slurm.cut_cable(host)
    slurm.wait_for_start(job, 2, timeout=START_S)
    assert slurm.job(job)["BatchHost"] != host
    ended = slurm.wait_for(job, "COMPLETED", timeout=2 * START_S)
    assert (ended["ExitCode"], ended["Restarts"]) == ("0:0", "2")
    assert_same(run, undisturbed)
