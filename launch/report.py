"""Write a run's report again, or put several runs side by side.

python launch/report.py outputs/demo                       # outputs/demo/report.html and charts/
python launch/report.py outputs/a outputs/b --names mixed,phases --output outputs/comparison
python launch/report.py --sweep outputs/sweeps/bench-bench  # its sweep.html and sweep.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_modules.faults import DataFault, Fault
from launch.composing import report_faults


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description="Write the report of a run, or compare several: runs that differ in their seed are "
        "one experiment, differences are to the first."
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run directory")
    parser.add_argument(
        "--sweep", type=Path, metavar="DIR", help="a sweep's folder: what its runs gave"
    )
    parser.add_argument("--names", help="names of the experiments, separated by commas")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of comparison.html and comparison.png; default: beside the first run",
    )
    given = parser.parse_args()
    if bool(given.runs) == bool(given.sweep):
        parser.error("name run directories, or a sweep's folder with --sweep")
    if len(given.runs) < 2 and (given.output or given.names):
        parser.error(
            "--output and --names are for several runs; others' reports lie in their folders"
        )
    return given


def sweep_command(folder: Path) -> None:
    """The report of a sweep.

    Raises:
        DataFault: the folder is no sweep's, or no run of it is finished.
    """
    from trainer.console import make_console
    from trainer.report.sweep import read_sweep_facts, write_sweep_report

    facts = read_sweep_facts(folder)
    page = write_sweep_report(facts)
    if page is None:
        seen = f"{len(facts.unfinished)} runs, none of them finished"
        rule = "a sweep's report is of runs that have come to their end"
        raise DataFault(Fault(str(folder), seen, rule, "Wait for one."))
    console = make_console()
    for name, why in facts.unfinished.items():
        console.print(f"left out: {name}: {why}", soft_wrap=True, markup=False)
    console.print(f"page: {page}", soft_wrap=True, markup=False)


def command(runs: list[Path], names: list[str] | None, output: Path | None) -> None:
    """One run: its report. Several: their comparison."""
    from trainer.console import make_console
    from trainer.diagnosis import diagnose, unchecked
    from trainer.report import (
        compare,
        print_comparison,
        summarise,
        write_comparison,
        write_report,
    )
    from trainer.run_facts import read_run

    console = make_console()
    if len(runs) == 1:
        facts = read_run(runs[0])
        page = write_report(facts, diagnose(facts), unchecked(facts))
    else:
        folder = output or runs[0].parent
        comparison = compare([summarise(read_run(run)) for run in runs], names)
        print_comparison(console, comparison)
        try:
            page = write_comparison(comparison, folder)
        except OSError as error:
            seen = f"{folder}: {error.strerror or error}"
            rule = "comparison.html and comparison.png are written there"
            raise DataFault(Fault("--output", seen, rule, "Name a folder.")) from error
    console.print(f"page: {page}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    given = arguments()
    if given.sweep:
        report_faults(lambda: sweep_command(given.sweep))
    else:
        report_faults(
            lambda: command(
                given.runs, given.names.split(",") if given.names else None, given.output
            )
        )
