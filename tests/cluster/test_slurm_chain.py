"""A chain of jobs, one per phase, on a real SLURM."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock
from slurm_cluster import SlurmCluster
from slurm_runs import START_S, SlurmRun

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

PHASES = ("mix", "specialize", "hard")


def test_a_phase_that_fails_cancels_the_rest_and_three_jobs_are_the_single_run(
    slurm: SlurmCluster, undisturbed: Path, root: Path
) -> None:
    run = SlurmRun(slurm, root, "chain", "cluster.chain=true", "cluster.retries=2")
    # a run of somebody else's in this directory: a fault
    with FileLock(str(run.folder / ".lock")):
        jobs = run.submit()
        assert len(jobs) == len(PHASES)
        first = slurm.wait_for(jobs[0], "FAILED", timeout=START_S)
        assert (first["ExitCode"], first["Restarts"]) == ("2:0", "0")
        assert "is in use by" in run.log(jobs[0])
        for job in jobs[1:]:
            slurm.wait_for(job, "CANCELLED")
            assert not (run.folder / f"log/slurm-{job}.out").exists(), "it never began"

    jobs = run.submit()
    for job, phase in zip(jobs, PHASES, strict=True):
        ended = slurm.wait_for(job, "COMPLETED", timeout=2 * START_S)
        assert (ended["ExitCode"], ended["Restarts"]) == ("0:0", "0")
        assert ended["JobName"].endswith(phase)
        assert f"job {job} ends with 0" in run.log(job)
    run.assert_same(undisturbed)
