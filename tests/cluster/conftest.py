"""One cluster for all tests of a kind: it is up in two seconds, and jobs wait for its timeouts."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm_cluster import SlurmCluster, missing_for_slurm


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
