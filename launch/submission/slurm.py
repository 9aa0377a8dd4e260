"""SLURM's own commands, asked and answered."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import suppress

from data_modules.faults import ConfigFault, Fault
from launch.submission import sbatch
from launch.submission.job import ArrayJob, Job, own_environment

_SECONDS = 60  # for an answer; a busy controller takes its time


def submit(job: Job | ArrayJob) -> int:
    """Hand a job over.

    Returns:
        its id.

    Raises:
        ConfigFault: SLURM is not here, or refuses.
    """
    folder = job.log if isinstance(job, ArrayJob) else sbatch.log_folder(job.run)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        answer = _ask(sbatch.command(job), sbatch.environment(job))
    except ConfigFault:
        with suppress(OSError):  # there is more in them
            folder.rmdir()
            folder.parent.rmdir()
        raise
    number = answer.strip().split(";")[0]  # ID, or ID;CLUSTER
    assert number.isdecimal(), answer
    return int(number)


def states(ids: Iterable[int | str]) -> dict[str, str]:
    """State of every job that is waiting or running, by id; one that ended is absent.

    Args:
        ids: of jobs, or of tasks of arrays as ``ARRAY_TASK``. Tasks of arrays are told one by one.
    """
    wanted = [str(one) for one in ids]
    if not wanted:
        return {}
    asked = ",".join(sorted({one.split("_")[0] for one in wanted}))
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={asked}"]
    try:
        lines = _ask(command).splitlines()
    except ConfigFault as fault:
        if "Invalid job id" in str(fault):  # none of them is known any more
            return {}
        raise
    found = dict(line.split() for line in lines)
    whole = {re.sub(r"_.*", "", one): state for one, state in found.items()}
    return {
        one: state
        for one, state in (whole | found).items()
        if {one, one.split("_")[0]} & set(wanted)
    }


def cancel(ids: Sequence[int | str]) -> None:
    """Cancel jobs; those that ended are left alone."""
    if ids:
        _ask(["scancel", "--quiet", *(str(one) for one in ids)])


def _ask(command: Sequence[str], more: dict[str, str] | None = None) -> str:
    program = command[0]
    if shutil.which(program) is None:
        rule = "cluster=slurm needs SLURM's commands on this machine"
        remedy = "Submit from a login node, or choose cluster=local or cluster=ssh."
        raise ConfigFault(Fault("cluster.kind", f"no {program} here", rule, remedy))
    try:
        done = subprocess.run(
            command,
            env=own_environment() | (more or {}),
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        seen = f"{program} did not answer within {_SECONDS} s"
        remedy = "Ask `sinfo` whether it is up."
        raise ConfigFault(Fault("cluster.kind", seen, "SLURM must be reachable", remedy)) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())
        rule = f"{program} must accept it"
        raise ConfigFault(Fault("cluster", said or f"exit code {done.returncode}", rule))
    return done.stdout
