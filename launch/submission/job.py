"""What is handed to a scheduler."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from data_modules.faults import ConfigFault, Fault
from trainer.config.schema import ClusterConfig, ClusterKind, Config

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPT = REPOSITORY / "slurm" / "train.sbatch"
TRAIN = REPOSITORY / "launch" / "train.py"
NODE = REPOSITORY / "launch" / "node.py"

# settings of the submission and not of what is submitted
_SUBMISSION_ONLY = ("cluster.dry_run=", "cluster.chain=", "hydra.")
#: How SLURM's commands reach it.
_CLIENTS = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
_LAUNCHERS = {
    *("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE"),
    *("GROUP_RANK", "MASTER_ADDR", "MASTER_PORT"),
}


@dataclass(frozen=True)
class Job:
    """One run, or some phases of it, as one job.

    Attributes:
        name: shown by the scheduler.
        overrides: of ``launch/train.py``.
        run: its run directory.
        cluster: what it asks for.
        after: ids of jobs that must have ended well before it starts.
    """

    name: str
    overrides: tuple[str, ...]
    run: Path
    cluster: ClusterConfig
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class ArrayJob:
    """Several runs as one array.

    Attributes:
        folder: holds ``N.args`` for every task N: overrides, each ended by a zero byte.
        count: tasks; they count from 0.
        at_once: how many may run at a time.
        log: folder of what they print.
        after: ids of jobs that must have ended before any task starts.
        after_any: however those ended; else they must have ended well.
        tasks: those to run; None runs all.
    """

    name: str
    folder: Path
    count: int
    at_once: int
    log: Path
    cluster: ClusterConfig
    after: tuple[int, ...] = ()
    after_any: bool = False
    tasks: tuple[int, ...] | None = None


def plain(override: str) -> str:
    """An override without the signs that add a key or group."""
    return override.lstrip("+")


def job_overrides(overrides: Sequence[str]) -> list[str]:
    """The overrides that a job trains with, of those that were submitted."""
    return [one for one in overrides if not plain(one).startswith(_SUBMISSION_ONLY)]


def ranks_per_node(cluster: ClusterConfig) -> int:
    """Processes of every host.

    Raises:
        ConfigFault: nothing tells.
    """
    if cluster.ranks_per_node is not None:
        return cluster.ranks_per_node
    if cluster.gpus_per_node is not None:
        return max(1, cluster.gpus_per_node)
    if cluster.kind is ClusterKind.local:
        from launch.node import own_ranks

        return own_ranks()
    raise ConfigFault(
        Fault(
            "cluster.gpus_per_node",
            "not set",
            "the plan depends on the number of ranks, which is nodes x GPUs",
            "Set cluster.gpus_per_node=8, say; on a cluster without GPUs 0, and cluster.ranks_per_node.",
        )
    )


def chain(config: Config, overrides: Sequence[str], phases: Sequence[str]) -> list[Job]:
    """One job per phase; whoever submits them sets ``after``."""
    rest = [one for one in job_overrides(overrides) if not plain(one).startswith("phase=")]
    run = Path(config.output_dir).absolute()
    return [
        Job(f"{config.run_name}-{phase}", (*rest, f"+phase={phase}"), run, config.cluster)
        for phase in phases
    ]


def whole(config: Config, overrides: Sequence[str]) -> Job:
    """The whole run as one job."""
    run = Path(config.output_dir).absolute()
    return Job(config.run_name, tuple(job_overrides(overrides)), run, config.cluster)


def behind(job: Job, *ids: int) -> Job:
    """The same job, to start when others have ended well."""
    return replace(job, after=ids)


def _is_of_a_job(name: str) -> bool:
    """Variables of the job that this process is in: a job that it submits would take them for its own."""
    return name.startswith(("SLURM_", "SLURMD_")) and name not in _CLIENTS


def own_environment() -> dict[str, str]:
    """Ours without a launcher's variables: a run that is started from here has ranks of its own."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _LAUNCHERS and not _is_of_a_job(name)
    }
