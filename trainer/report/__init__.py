"""Reports: one page for a run, one for several side by side, and pictures of both."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from trainer.diagnosis import Finding
from trainer.report.comparison import Comparison, compare
from trainer.report.comparison_page import write_comparison
from trainer.report.comparison_table import print_comparison
from trainer.report.page import render_report, write_page
from trainer.report.pictures import chart_files, draw_charts
from trainer.report.summarise import RunSummary, summarise
from trainer.run_facts import RunFacts


def write_report(
    facts: RunFacts, findings: Sequence[Finding] | None, unchecked: Mapping[str, str]
) -> Path:
    """Write a run's ``report.html`` and the pictures in ``charts/``.

    Args:
        findings: of the diagnosis; None where there was none.
        unchecked: rule of the diagnosis -> why the run could not be checked by it.

    Returns:
        The page.
    """
    draw_charts(facts)
    return write_page(facts, findings, unchecked)


__all__ = [
    "Comparison",
    "RunSummary",
    "chart_files",
    "compare",
    "draw_charts",
    "print_comparison",
    "render_report",
    "summarise",
    "write_comparison",
    "write_page",
    "write_report",
]
