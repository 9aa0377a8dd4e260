"""Reports: one page for a run, one for several side by side, and pictures of both."""

from collections.abc import Sequence
from pathlib import Path

from trainer.report.comparison import Comparison, compare
from trainer.report.comparison_page import write_comparison
from trainer.report.comparison_table import print_comparison
from trainer.report.page import Finding, render_report, write_page
from trainer.report.pictures import chart_files, draw_charts
from trainer.report.summarise import RunSummary, summarise
from trainer.run_facts import RunFacts


def write_report(facts: RunFacts, findings: Sequence[Finding] | None) -> Path:
    """Write a run's ``report.html`` and the pictures in ``charts/``.

    Args:
        findings: of the diagnosis; None where there was none.

    Returns:
        The page.
    """
    draw_charts(facts)
    return write_page(facts, findings)


__all__ = [
    "Comparison",
    "Finding",
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
