"""Training as a job of a real SLURM: the same figures as without, exit codes, cancelling."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from launching import steps_of
from slurm_cluster import REPOSITORY, SlurmCluster
from slurm_runs import START_S, STEPS, SlurmRun, small_run

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]


def test_two_nodes_train_what_one_does_and_stopped_jobs_stay_away(
    slurm: SlurmCluster, undisturbed: Path, root: Path
) -> None:
    run = SlurmRun(slurm, root, "two_nodes")
    run.gates.close(9)
    (first,) = run.submit()
    run.wait_at(9, first)
    told = run.status()
    (newest,) = [one for one in steps_of(run.folder) if one["step"] == run.newest_step]
    assert newest["step"] in (7, 8)  # figures come a step late
    for one in (
        f"{first} RUNNING",
        newest["phase"],
        f"{(newest['step'] - 1) % 7 + 1}/7 of {STEPS}",
        f"{newest['loss']:.3f}",
    ):
        assert one in told, told
    slurm.run("scancel", "--signal=INT", str(first))
    time.sleep(1)  # it is on its way
    run.gates.open(9)
    ended = slurm.wait_for(first, "FAILED", timeout=START_S)
    assert (ended["ExitCode"], ended["Restarts"]) == ("98:0", "0")
    assert "stopped" in run.status()

    # the same command again is another job, which goes on
    run.gates.close(13)
    (second,) = run.submit()
    run.wait_at(13, second)
    slurm.run("scancel", str(second))
    ended = slurm.wait_for(second, "CANCELLED")
    assert ended["Restarts"] == "0"
    assert [one["JobState"] for one in slurm.ended(second)] == ["CANCELLED"]

    run.gates.open(13)
    (third,) = run.submit()
    job = slurm.wait_for(third, "COMPLETED", timeout=2 * START_S)
    assert (job["ExitCode"], job["NumNodes"]) == ("0:0", "2")
    assert all("Resumes behind step" in run.log(one) for one in (second, third))
    run.assert_same(undisturbed)
    assert "finished" in run.status()


def test_a_fault_of_the_users_ends_with_2_and_does_not_come_back(
    slurm: SlurmCluster, root: Path
) -> None:
    script, log = str(REPOSITORY / "slurm/train.sbatch"), f"--output={root}/fault-%j.out"
    given = small_run(root, "fault")
    # one that composing finds, and one that only training does
    for more, named in (("no.such=key", "no: unknown key"), ("resume=/nowhere", "resume")):
        job = slurm.sbatch("--nodes=2", log, script, *given, more)
        ended = slurm.wait_for(job, "FAILED", timeout=START_S)
        assert (ended["ExitCode"], ended["Restarts"]) == ("2:0", "0")
        assert named in (root / f"fault-{job}.out").read_text(encoding="utf-8")


def test_a_job_by_hand_tells_its_turn_and_its_end(undisturbed: Path, root: Path) -> None:
    (log,) = root.glob("undisturbed-*.out")
    text = log.read_text(encoding="utf-8")
    number = log.stem.removeprefix("undisturbed-")
    assert f"job {number} on n1, turn 1: {undisturbed}" in text
    assert f"job {number} ends with 0" in text
