"""A chain of jobs, one per phase, on a real SLURM."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from slurm_cluster import SlurmCluster
from slurm_runs import START_S, assert_same, log_of, on_slurm, small_run, submit

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

PHASES = ("mix", "specialize", "hard")


def test_a_phase_that_fails_cancels_the_rest_and_three_jobs_are_the_single_run(
    slurm: SlurmCluster, undisturbed: Path, root: Path
) -> None:
    run = root / "chain"
    given = [*small_run(root, run.name), *on_slurm("cluster.chain=true", "cluster.retries=2")]
    run.mkdir()
    with FileLock(str(run / ".lock")):  # a run of somebody else's in this directory: a fault
        jobs = submit(slurm, given)
        assert len(jobs) == len(PHASES)
        first = slurm.wait_for(jobs[0], "FAILED", timeout=START_S)
        assert (first["ExitCode"], first["Restarts"]) == ("2:0", "0")
        assert "is in use by" in log_of(run, jobs[0])
        for job in jobs[1:]:
            assert slurm.wait_for(job, "CANCELLED")["StartTime"] in ("Unknown", "None")
            assert not (run / f"log/slurm-{job}.out").exists()

    jobs = submit(slurm, given)
    for job, phase in zip(jobs, PHASES, strict=True):
        ended = slurm.wait_for(job, "COMPLETED", timeout=2 * START_S)
        assert (ended["ExitCode"], ended["Restarts"]) == ("0:0", "0")
        assert ended["JobName"].endswith(phase)
        assert f"job {job} ends with 0" in log_of(run, job)
    assert_same(run, undisturbed)
