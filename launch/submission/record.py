"""Which jobs a run was handed over as; kept in its directory."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from data_modules.faults import ConfigFault, Fault
from launch.submission import slurm
from trainer.run_directory import read_json, write_json


@dataclass(frozen=True)
class Submitted:
    """One job of a run.

    Attributes:
        job: its id; of a task of an array ``ARRAY_TASK``.
        name: as the scheduler shows it.
        time: when it was submitted, seconds since 1970.
    """

    job: str
    name: str
    time: float


def record_file(run: Path) -> Path:
    """Where the jobs of a run are listed."""
    return run / "slurm" / "jobs.json"


def jobs_of(run: Path) -> list[Submitted]:
    """The jobs of a run, the newest last."""
    path = record_file(run)
    return [Submitted(**one) for one in read_json(path)] if path.is_file() else []


def note(run: Path, jobs: Sequence[tuple[str, str]]) -> None:
    """Add jobs, as (id, name), to the list of a run."""
    new = [Submitted(job, name, time.time()) for job, name in jobs]
    write_json(record_file(run), [asdict(one) for one in [*jobs_of(run), *new]])


def refuse_twice(run: Path) -> None:
    """Raise if a job of the run waits or runs.

    Raises:
        ConfigFault: naming it.
    """
    found = slurm.states(one.job for one in jobs_of(run))
    for job, state in found.items():
        raise ConfigFault(
            Fault(
                "output_dir",
                f"job {job} of {run} is {state}",
                "two jobs in one run directory would wait for each other",
                f"Wait for it, `scancel {job}`, or set another run_name.",
            )
        )
