"""What is wrong with a run, and which overrides to try: ``python launch/diagnose.py outputs/demo``.

Prints the findings, causes first, and writes them to ``findings.json`` in the run directory.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from launch.composing import report_faults


def command(root: Path) -> None:
    """Diagnose the run in a directory."""
    from trainer.console import make_console
    from trainer.diagnosis import diagnose, print_findings, save, unchecked
    from trainer.run_facts import read_run

    facts = read_run(root)
    findings, open_questions = diagnose(facts), unchecked(facts)
    print_findings(make_console(), findings, open_questions)
    save(facts.directory.findings, findings, open_questions)


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="a run directory, such as outputs/demo")
    arguments = parser.parse_args()
    report_faults(lambda: command(arguments.run))


if __name__ == "__main__":
    main()
