"""Tell how far runs are: job, state, phase, step, time left, loss.

python launch/status.py outputs/long outputs/sweeps/lr
"""

from __future__ import annotations

import argparse
import shutil
from datetime import timedelta
from pathlib import Path

from data_modules.faults import ConfigFault, DataFault, Fault
from launch.composing import report_faults

#: Any of these tells of a run that was started or submitted.
_LEFT_BY_RUNS = (
    "config.yaml",
    "plan.json",
    "metrics.jsonl",
    "alive",
    "log",
    "slurm",
    "stopped.json",
)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description="Tell how far runs are.")
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="run directory, or that of a sweep"
    )
    return parser.parse_args()


def command(folders: list[Path]) -> None:
    """Print one line per run; of a sweep, its stems and runs.

    Raises:
        DataFault: there is no such folder.
    """
    from rich import box
    from rich.table import Table

    from launch.submission import record, slurm
    from trainer.console import make_console
    from trainer.progress import Progress, progress_of

    not_begun = Progress("not begun", "")
    runs = [run for folder in folders for run in runs_of(folder)]
    jobs = {run: record.jobs_of(run) for run in runs}
    asked = [one.job for found in jobs.values() for one in found]
    states, words = {}, []
    if asked and shutil.which("squeue"):
        try:
            states = slurm.states(asked)
        except ConfigFault as fault:  # the files still tell the rest
            words.append(f"The queue is not known: {fault.faults[0].seen}.")
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "state", "phase", "step", "left", "loss", "jobs"):
        table.add_column(name, overflow="fold")
    for run, its_jobs in jobs.items():
        now = progress_of(run) if run.is_dir() or run in folders else not_begun
        queued = [f"{one.job} {states[one.job]}" for one in its_jobs if one.job in states]
        step = f"{now.phase_step}/{now.phase_steps}" if now.phase else ""
        left = "" if now.seconds_left is None else str(timedelta(seconds=round(now.seconds_left)))
        table.add_row(
            run.name,
            now.state,
            now.phase,
            f"{step} of {now.last_step}" if now.last_step != now.phase_steps else step,
            left,
            "" if now.loss is None else f"{now.loss:.3f}",
            ", ".join(queued),
        )
        if now.words:
            words.append(f"{run.name}: {now.words}")
    console = make_console()
    console.print(table)
    for line in words:
        console.print(line, soft_wrap=True)


def runs_of(folder: Path) -> list[Path]:
    """The run directories of a sweep, stems first; any other folder is one itself.

    Raises:
        DataFault: the folder is neither, or what the sweep consists of is damaged.
    """
    from trainer import sweep_record

    if not (folder / sweep_record.FILE).is_file():
        if folder.is_dir() and not any((folder / name).exists() for name in _LEFT_BY_RUNS):
            rule = "it names a run directory, or a sweep's folder"
            remedy = "Name the folder that holds metrics.jsonl, such as outputs/<run_name>."
            raise DataFault(Fault(str(folder), "nothing of a run is in it", rule, remedy))
        return [folder]
    sweep = sweep_record.read_sweep(folder)
    return [folder / one.folder for one in (*sweep.stems, *sweep.runs)]


if __name__ == "__main__":
    given = arguments()
    report_faults(lambda: command(given.runs))
