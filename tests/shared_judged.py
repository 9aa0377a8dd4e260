"""Short ways to write judged rows, shared by the tests of metrics."""

from __future__ import annotations

from data_modules.cleaning.language import language_of
from trainer.evaluation.metrics import Judged, metric, per_row


def judged(
    answer: str, gold: str, request: str = "", finished: bool = True, tests: str = ""
) -> Judged:
    """An answer, in the language that its request is found to be in."""
    return Judged(request, answer, gold, language_of(request), finished, tests)


def score(name: str, row: Judged) -> float | None:
    """A metric on one row."""
    return per_row(metric(name), [row])[0]
