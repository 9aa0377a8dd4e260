"""Training as a job of a real SLURM: the same figures as without, exit codes, cancelling."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from slurm_cluster import REPOSITORY, SlurmCluster
from slurm_runs import (
    START_S,
    assert_same,
    log_of,
    on_slurm,
    small_run,
    submit,
    wait_for_step,
)

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


def status_of(slurm: SlurmCluster, run: Path) -> str:
    return slurm.run(sys.executable, str(REPOSITORY / "launch/status.py"), str(run))


def test_two_nodes_train_what_one_does_and_a_cancelled_job_stays_away(
    slurm: SlurmCluster, undisturbed: Path, root: Path
) -> None:
    run = root / "two_nodes"
    given = [*small_run(root, run.name), *on_slurm()]
    (first,) = submit(slurm, given)
    wait_for_step(slurm, first, run, 9)
    told = status_of(slurm, run)
    assert f"{first} RUNNING" in told
    assert "specialize" in told
    assert f"of {21}" in told
    slurm.run("scancel", str(first))
    ended = slurm.wait_for(first, "CANCELLED")
    assert ended["Restarts"] == "0"
    assert [one["JobState"] for one in slurm.ended(first)] == ["CANCELLED"]

    # the same command again is another job, which goes on
    (second,) = submit(slurm, given)
    job = slurm.wait_for(second, "COMPLETED", timeout=2 * START_S)
    assert job["ExitCode"] == "0:0"
    assert job["NumNodes"] == "2"
    assert "Resumes behind step" in log_of(run, second)
    assert_same(run, undisturbed)
    assert "finished" in status_of(slurm, run)


def test_a_fault_of_the_users_ends_with_2_and_does_not_come_back(
    slurm: SlurmCluster, root: Path
) -> None:
    script, log = str(REPOSITORY / "slurm/train.sbatch"), f"--output={root}/fault-%j.out"
    given = small_run(root, "fault")
    # one that composing finds, and one that only training does: two ranks cannot share a row
    for more, named in (("no.such=key", "no.such"), ("global_batch_size=1", "global_batch_size")):
        job = slurm.sbatch("--nodes=2", log, script, *given, more, folder=REPOSITORY)
        ended = slurm.wait_for(job, "FAILED", timeout=START_S)
        assert (ended["ExitCode"], ended["Restarts"]) == ("2:0", "0")
        assert named in (root / f"fault-{job}.out").read_text(encoding="utf-8")


def test_an_undisturbed_job_by_hand_tells_its_turn_and_end(undisturbed: Path, root: Path) -> None:
    (log,) = root.glob("undisturbed-*.out")
    text = log.read_text(encoding="utf-8")
    number = log.stem.removeprefix("undisturbed-")
    assert f"job {number} on n1, turn 1: {undisturbed}" in text
    assert f"job {number} ends with 0" in text
