"""What a search goes by, read from a run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from trainer.evaluation.results import Figure
from trainer.report.comparison import reader_of
from trainer.report.summarise import RunSummary, summarise
from trainer.run_facts import read_run


def figure_of(run: RunSummary, measure: str) -> Figure | None:
    """A measure of a run with its interval; None where it was not measured."""
    found = reader_of(measure, run.rare_tasks)(run)
    return found if found is not None and math.isfinite(found.value) else None


def objectives_of(run: Path, measures: Sequence[str]) -> list[float] | None:
    """The measures of a run's newest evaluation; None if it lacks any.

    Raises:
        DataFault: there is no evaluation, or no run.
    """
    summary = summarise(read_run(run))
    found = [figure_of(summary, one) for one in measures]
    values = [one.value for one in found if one is not None]
    return values if len(values) == len(measures) else None
