"""The report of ``launch/prepare.py``: a terminal summary, an HTML page, and a preview of samples.

What is reported is one plain dictionary, :class:`Report`; it is also ``report.json``.
"""

from data_modules.prepare.tokeniser import LENGTH_EDGES
from data_modules.report.advice import advice
from data_modules.report.contents import (
    QUALITY_EDGES,
    Forced,
    Histogram,
    KeptExample,
    RejectExample,
    Report,
    SourceRows,
    TaskReport,
    Wording,
)
from data_modules.report.page import render_page
from data_modules.report.preview import Piece, pieces_of, print_preview
from data_modules.report.terminal import print_report

__all__ = [
    "LENGTH_EDGES",
    "QUALITY_EDGES",
    "Forced",
    "Histogram",
    "KeptExample",
    "Piece",
    "RejectExample",
    "Report",
    "SourceRows",
    "TaskReport",
    "Wording",
    "advice",
    "pieces_of",
    "print_preview",
    "print_report",
    "render_page",
]
