"""Jobs of a real SLURM that are interrupted in the middle of training come back by themselves."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from slurm_cluster import SlurmCluster
from slurm_runs import START_S, SlurmRun

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]


def test_asked_to_leave(slurm: SlurmCluster, undisturbed: Path, root: Path) -> None:
    run = SlurmRun(slurm, root, "asked", "cluster.partition=low", "cluster.retries=1")
    run.gates.close(3)
    (job,) = run.submit()
    name, step = str(job), 3

    def preempt() -> None:
        slurm.sbatch("--nodes=3", "--exclusive", f"--output={root}/other", "--wrap=sleep 1")

    def kill_a_rank() -> None:
        (rank,) = slurm.ranks_on(slurm.job(job)["BatchHost"])
        rank.kill()

    acts = (
        lambda: slurm.run("scancel", "--batch", "--signal=USR1", name),
        lambda: slurm.run("scancel", "--signal=USR1", name),
        preempt,
        lambda: slurm.run("scontrol", "requeue", name),
        kill_a_rank,
    )
    for restarts, act in enumerate(acts):
        run.wait_at(step, job)
        act()
        time.sleep(1)  # signals are on their way
        run.gates.open(step)
        slurm.wait_for_start(job, restarts + 1, timeout=START_S)
        step = run.newest_step + 2
        run.gates.close(step)
    run.wait_at(step, job)
    run.gates.open(step)
    ended = slurm.wait_for(job, "COMPLETED", timeout=2 * START_S)
    assert (ended["ExitCode"], ended["Restarts"]) == ("0:0", str(len(acts)))
    assert run.log(job).count("Resumes behind step") == len(acts)
    run.assert_same(undisturbed)


def test_a_node_crashes_and_another_is_cut_off(
    slurm: SlurmCluster, undisturbed: Path, root: Path
) -> None:
    # a node that was cut off finds out later than SLURM does
    watch = ("cluster.stall_timeout_s=200", "cluster.process_group_timeout_s=300")
    run = SlurmRun(slurm, root, "lost", "cluster.retries=0", *watch)
    run.gates.close(6)
    (job,) = run.submit()
    run.wait_at(6, job)
    slurm.kill_node("n2")
    run.gates.open(6)
    slurm.wait_for_start(job, 1, timeout=START_S)
    slurm.start_node("n2")
    step = run.newest_step + 3
    run.gates.close(step)
    run.wait_at(step, job)
    # where rank 0 is: it lives on behind the cut, and has the run's lock
    host = slurm.job(job)["BatchHost"]
    slurm.cut_cable(host)
    slurm.wait_for_start(job, 2, timeout=START_S)
    assert slurm.job(job)["BatchHost"] != host
    run.wait_for_words("waiting up to", 1, job)
    slurm.mend_cable(host)
    # the node is back, and SLURM ends there what is left of the second turn, before the third goes on
    run.wait_for_words("Resumes behind step", 2, job)
    run.gates.open(step)
    ended = slurm.wait_for(job, "COMPLETED", timeout=2 * START_S)
    assert (ended["ExitCode"], ended["Restarts"]) == ("0:0", "2")
    run.assert_same(undisturbed)
