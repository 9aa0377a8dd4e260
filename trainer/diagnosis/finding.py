"""What a diagnosis says: one finding, its severity, and how severe a loss of points is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Severity(StrEnum):
    """How much is at stake; in falling order."""

    high = "high"
    medium = "medium"
    low = "low"


@dataclass(frozen=True)
class Finding:
    """Something that is wrong with a run, and what to try.

    Attributes:
        rule: name of the rule that found it.
        title: the finding in a few words.
        evidence: sentences with the figures, tasks and places.
        overrides: command-line overrides of this program, to be tried together.
        tasks: tasks that suffer from it.
        score: what orders findings of equal severity: points of the mean score over all evaluated tasks
            that are at stake, as far as the run tells; in [0, 1].
        explains: rules whose findings about the same tasks are consequences of this one.
        everywhere: it explains them for whatever tasks.
        rooted: the run's files show where it comes from, so nothing else explains it.
        because: rule of the finding that this one is a consequence of; "" for a cause.
    """

    rule: str
    title: str
    severity: Severity
    evidence: list[str]
    overrides: list[str]
    tasks: list[str]
    score: float
    explains: tuple[str, ...] = field(default=())
    everywhere: bool = False
    rooted: bool = False
    because: str = ""


#: A task that loses this many points of its score is a severe case, whatever the other tasks do.
HIGH_OF_ONE = 0.25
#: So is this much of the mean over all tasks.
HIGH_OF_MEAN = 0.05
#: Less than this of every task is not worth a change of the run.
LOW_OF_ONE = 0.05


def severity_of(lost: Mapping[str, float], tasks: int) -> tuple[Severity, float]:
    """Severity and score of points lost per task, in a run of so many evaluated tasks."""
    score = min(1.0, sum(lost.values()) / max(1, tasks))
    worst = max(lost.values(), default=0.0)
    if worst >= HIGH_OF_ONE or score >= HIGH_OF_MEAN:
        return Severity.high, score
    return (Severity.medium if worst >= LOW_OF_ONE else Severity.low), score
