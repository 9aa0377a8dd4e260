"""A job as a call of ``sbatch``: options and variables of ``slurm/train.sbatch``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from launch.submission.job import REPOSITORY, SCRIPT, ArrayJob, Job, ranks_per_node
from trainer.config.schema import ClusterConfig


def command(job: Job | ArrayJob) -> list[str]:
    """The words of the command."""
    words = ["sbatch", "--parsable", f"--job-name={job.name}", *_asked_for(job.cluster)]
    if isinstance(job, ArrayJob):
        wanted = range(job.count) if job.tasks is None else job.tasks
        words.append(f"--array={_ranges(wanted)}%{job.at_once}")
        words.append(f"--output={_plain(job.log)}/slurm-%A_%a.out")
    else:
        words.append(f"--output={_plain(log_folder(job.run))}/slurm-%j.out")
    if job.after:
        kind = "afterany" if isinstance(job, ArrayJob) and job.after_any else "afterok"
        ids = ":".join(str(one) for one in job.after)
        words += [f"--dependency={kind}:{ids}", "--kill-on-invalid-dep=yes"]
    words += [*job.cluster.sbatch, str(SCRIPT)]
    return words if isinstance(job, ArrayJob) else [*words, *job.overrides]


def _asked_for(cluster: ClusterConfig) -> list[str]:
    words = [f"--nodes={cluster.nodes}", f"--signal=B:USR1@{cluster.warning_s}"]
    if cluster.gpus_per_node:
        words.append(f"--gpus-per-node={cluster.gpus_per_node}")
    named = {
        "cpus-per-task": cluster.cpus_per_node,  # one task is a node
        "mem": cluster.memory,
        "time": cluster.time,
        "partition": cluster.partition,
        "account": cluster.account,
        "qos": cluster.qos,
        "constraint": cluster.constraint,
    }
    return words + [f"--{name}={value}" for name, value in named.items() if value is not None]


def environment(job: Job | ArrayJob) -> dict[str, str]:
    """What the script reads, and what the user wants every process to see."""
    cluster = job.cluster
    found: dict[str, object] = {
        "POLYPHASE_HOME": REPOSITORY,
        "POLYPHASE_PYTHON": sys.executable,
        **cluster.environment,  # a container's Python has another place
        "POLYPHASE_RANKS": ranks_per_node(cluster),
        "POLYPHASE_RETRIES": cluster.retries,
    }
    optional = {
        "POLYPHASE_PORT": cluster.master_port,
        "POLYPHASE_CONTAINER": cluster.container,
        "POLYPHASE_MOUNTS": ",".join(cluster.container_mounts),
        "POLYPHASE_WRAP": "\n".join(cluster.wrap),
        "POLYPHASE_SETUP": "\n".join(cluster.setup),
        "POLYPHASE_ARGUMENTS": job.folder if isinstance(job, ArrayJob) else None,
    }
    found |= {name: value for name, value in optional.items() if value}
    return {name: str(value) for name, value in found.items()}


def log_folder(run: Path) -> Path:
    """Where the job's output of a run lies; it must be there before the job starts."""
    return run / "log"


def _plain(folder: Path) -> str:
    """A folder in a pattern of file names; there a % begins a number of the job."""
    return str(folder).replace("%", "%%")


def _ranges(numbers: Sequence[int]) -> str:
    """``0-3,7`` for 0, 1, 2, 3, 7."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][-1] + 1:
            parts[-1] = [parts[-1][0], number]
        else:
            parts.append([number])
    return ",".join("-".join(str(one) for one in part) for part in parts)
