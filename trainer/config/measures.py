"""Names of what a run is measured by, and whether more of it is better."""

from __future__ import annotations

MAXIMIZE, MINIMIZE = "maximize", "minimize"

#: Measure -> 1 where more is better, -1 where less is, 0 where neither is.
KNOWN = {
    "mean": 1,
    "worst": 1,
    "best": 1,
    "spread": -1,
    "rare": 1,
    "in_format": 1,
    "in_format_processed": 1,
    "general_before": 0,
    "general_after": 1,
    "general_loss_before": 0,
    "general_loss_after": -1,
    "loss": -1,
    "steps": 0,
}
#: Beginnings of names that a prompt set or a task follows.
_FAMILIES = {"crosstalk/": -1, "task/": 1}
#: Measures of losses alone; all others come from judged answers.
OF_LOSSES = ("loss", "general_loss_after", "general_loss_before", "steps")


def better(measure: str) -> int | None:
    """1, -1 or 0; None if there is no such measure."""
    for start, sign in _FAMILIES.items():
        if measure.startswith(start) and len(measure) > len(start):
            return sign
    return KNOWN.get(measure)


def direction(measure: str) -> str | None:
    """``maximize`` or ``minimize``, where it is plain."""
    return {1: MAXIMIZE, -1: MINIMIZE}.get(better(measure) or 0)
