"""Write a run's report again, or put several runs side by side.

python launch/report.py outputs/demo                       # outputs/demo/report.html and charts/
python launch/report.py outputs/a outputs/b --names mixed,phases --output outputs/comparison
"""

from __future__ import annotations

import argparse
from pathlib import Path

from launch.composing import report_faults


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(
        description="Write the report of a run, or compare several: runs that differ in their seed are "
        "one experiment, differences are to the first."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory")
    parser.add_argument("--names", help="names of the experiments, separated by commas")
    parser.add_argument(
        "--output",
        type=Path,
        help="folder of comparison.html and comparison.png; default: beside the first run",
    )
    return parser.parse_args()


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
        comparison = compare([summarise(read_run(run)) for run in runs], names)
        print_comparison(console, comparison)
        page = write_comparison(comparison, output or runs[0].parent)
    console.print(f"page: {page}", soft_wrap=True, markup=False)


if __name__ == "__main__":
    given = arguments()
    report_faults(
        lambda: command(given.runs, given.names.split(",") if given.names else None, given.output)
    )
