"""Rules on where a job runs: each is broken once, and the fault names key, value and remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_modules.faults import Fault
from trainer.config.schema import ClusterConfig, ClusterKind, Config
from trainer.config.validate_cluster import cluster_faults

SLURM: dict[str, Any] = {"kind": ClusterKind.slurm, "time": "24:00:00"}


def faults_of(**fields: Any) -> list[Fault]:
    return list(cluster_faults(Config(cluster=ClusterConfig(**fields))))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {**SLURM, "nodes": 4, "gpus_per_node": 8, "memory": "64G", "chain": True, "retries": 3},
        {**SLURM, "time": "2-00:00:00", "sbatch": ["--exclusive", "--mail-type=END"]},
        {**SLURM, "container": "image.sqsh", "container_mounts": ["/data:/data"]},
        {**SLURM, "wrap": ["apptainer", "exec", "--nv", "image.sif"]},
        {"environment": {"NCCL_DEBUG": "INFO"}, "master_port": 29500},
    ],
)
def test_what_can_run_passes(fields: dict[str, Any]) -> None:
    assert faults_of(**fields) == []


@pytest.mark.parametrize(
    ("fields", "where", "seen"),
    [
        ({"nodes": 0}, "cluster.nodes", "0"),
        ({"nodes": 2}, "cluster.nodes", "2"),
        ({"gpus_per_node": -1}, "cluster.gpus_per_node", "-1"),
        ({"ranks_per_node": 0}, "cluster.ranks_per_node", "0"),
        ({"cpus_per_node": 0}, "cluster.cpus_per_node", "0"),
        ({"retries": -1}, "cluster.retries", "-1"),
        ({"chain": True}, "cluster.chain", "true with cluster=local"),
        ({"master_port": 80}, "cluster.master_port", "80"),
        ({"environment": {"A B": "1"}}, "cluster.environment", "'A B'"),
        ({"kind": ClusterKind.ssh}, "cluster.hostfile", "not set"),
        ({"kind": ClusterKind.ssh, "hostfile": "nowhere"}, "cluster.hostfile", "nowhere"),
        ({**SLURM, "memory": "64 GB"}, "cluster.memory", "64 GB"),
        ({**SLURM, "time": "24h"}, "cluster.time", "24h"),
        ({**SLURM, "time": "0:05:00"}, "cluster.warning_s", "300"),
        ({**SLURM, "container": "a", "wrap": ["b"]}, "cluster.wrap", "b"),
        ({**SLURM, "sbatch": ["exclusive"]}, "cluster.sbatch", "'exclusive'"),
        ({**SLURM, "sbatch": ["--nodes=3"]}, "cluster.sbatch", "'--nodes=3'"),
        ({**SLURM, "sbatch": ["-N 3"]}, "cluster.sbatch", "'-N 3'"),
        ({**SLURM, "sbatch": ["-n4"]}, "cluster.sbatch", "'-n4'"),
        ({**SLURM, "sbatch": ["--dependency=afterok:1"]}, "cluster.sbatch", None),
    ],
)
def test_what_cannot_is_named(fields: dict[str, Any], where: str, seen: str | None) -> None:
    (fault,) = faults_of(**fields)
    assert fault.where == where
    assert seen is None or fault.seen == seen


def test_a_hostfile_that_is_there_passes(tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("h1 slots=2\n", encoding="utf-8")
    ssh: dict[str, Any] = {"kind": ClusterKind.ssh, "hostfile": str(tmp_path / "hosts")}
    assert faults_of(**ssh, nodes=2) == []
    (fault,) = faults_of(**ssh, environment={"NOTE": "two\nlines"})
    assert fault.where == "cluster.environment.NOTE"
