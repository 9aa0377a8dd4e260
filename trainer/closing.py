"""The end of a run: its tables, diagnosis and page, from what it has left in its directory."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console

from trainer.charts import draw_run
from trainer.diagnosis import diagnose, print_findings, save, unchecked
from trainer.evaluation.results import Evaluation
from trainer.report import write_report
from trainer.run_directory import RunDirectory
from trainer.run_facts import RunFacts, read_run
from trainer.summary import print_summary


def close_run(console: Console, run: RunDirectory, evaluations: Mapping[str, Evaluation]) -> None:
    """Print what came out and what to change; write pictures, findings and the page."""
    print_summary(console, evaluations)
    draw_run(evaluations, run.metrics, run.picture)
    diagnose_and_report(console, read_run(run.root))
    made = [("report", run.report), ("metrics", run.metrics), ("picture", run.picture)]
    made += [
        (f"model {column}", run.export(column))
        for column in evaluations
        if run.export(column).is_dir()
    ]
    for name, path in made:
        console.print(f"{name + ':':<20}{path}", soft_wrap=True)


def diagnose_and_report(console: Console, facts: RunFacts) -> None:
    """Print and keep the findings, and write the page that shows them."""
    findings, open_questions = diagnose(facts), unchecked(facts)
    print_findings(console, findings, open_questions)
    save(facts.directory.findings, findings, open_questions)
    write_report(facts, findings, open_questions)
