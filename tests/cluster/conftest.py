"""One cluster for all tests of a kind: it is up in a second, and jobs wait for its timeouts."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# kill_matrix and launching: what a small run is, and what it left
sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))

from slurm_cluster import REPOSITORY, SlurmCluster, missing_for_slurm
from slurm_runs import START_S, small_run


@pytest.fixture(scope="session")
def slurm_session() -> Iterator[SlurmCluster]:
    reason = missing_for_slurm()
    if reason is not None:
        pytest.skip(reason)
    cluster = SlurmCluster()
    try:
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def slurm(slurm_session: SlurmCluster) -> SlurmCluster:
    """The cluster with no job and all nodes idle, whatever the test before did."""
    slurm_session.settle()
    return slurm_session


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where runs and their data lie."""
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="session")
def undisturbed(slurm_session: SlurmCluster, root: Path) -> Path:
    """The run that others are compared with: two ranks on one node, by a plain sbatch."""
    run = root / "undisturbed"
    job = slurm_session.sbatch(
        "--export=ALL,POLYPHASE_RANKS=2",
        f"--output={root}/undisturbed-%j.out",
        str(REPOSITORY / "slurm/train.sbatch"),
        *small_run(root, run.name),
    )
    ended = slurm_session.wait_for(job, "COMPLETED", timeout=2 * START_S)
    assert ended["ExitCode"] == "0:0"
    return run
