"""Figures that terminal, page and advice share, derived from a report's counts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from data_modules.report.contents import Histogram, Report, TaskReport

EXACT_DUPLICATE = "exact_duplicate"
NEAR_DUPLICATE = "near_duplicate"
CONTAMINATION = "contamination"


def rejected_rows(task: TaskReport) -> int:
    """Rows that cleaning left out."""
    return sum(task["rejects"].values())


def readable_rows(task: TaskReport) -> int:
    """Rows that cleaning saw."""
    return task["kept"] + rejected_rows(task)


def sample_rows(task: TaskReport) -> int:
    """Rows that became samples: what an epoch without any balance trains on."""
    return max(0, task["kept"] - task["overlong"] - task["all_masked"])


def total(report: Report, figure: Callable[[TaskReport], int]) -> int:
    """Sum of a figure over all tasks."""
    return sum(figure(task) for task in report["tasks"].values())


def share(part: float, whole: float) -> float:
    """part / whole; 0 of nothing is 0."""
    return part / whole if whole else 0.0


def shares(report: Report, figure: Callable[[TaskReport], int]) -> dict[str, float]:
    """Every task's share of a figure's total."""
    whole = total(report, figure)
    return {name: share(figure(task), whole) for name, task in report["tasks"].items()}


def rule_counts(report: Report) -> dict[str, int]:
    """Cleaning rule -> rows it left out in all tasks, most first; rules that found nothing included."""
    counts: dict[str, int] = {}
    for task in report["tasks"].values():
        for rule, rows in task["rejects"].items():
            counts[rule] = counts.get(rule, 0) + rows
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def language_counts(tasks: Iterable[TaskReport]) -> dict[str, int]:
    """Language -> rows in all the tasks, most first."""
    counts: dict[str, int] = {}
    for task in tasks:
        for language, rows in task["languages"].items():
            counts[language] = counts.get(language, 0) + rows
    return most_first(counts)


def most_first(counts: Mapping[str, int]) -> dict[str, int]:
    """The counts that are not zero, largest first, equal ones by name."""
    kept = ((name, rows) for name, rows in counts.items() if rows)
    return dict(sorted(kept, key=lambda item: (-item[1], item[0])))


def percentile(histogram: Histogram, part: float) -> float | None:
    """The value below which ``part`` of the values lie, interpolated within its bin.

    None when the histogram is empty.
    """
    counts, edges = histogram["counts"], histogram["edges"]
    wanted = part * sum(counts)
    below = 0
    for index, count in enumerate(counts):
        if count and below + count >= wanted:
            inside = (wanted - below) / count
            return edges[index] + inside * (edges[index + 1] - edges[index])
        below += count
    return None


def lengths(task: TaskReport) -> tuple[float | None, float | None]:
    """Median and 95th percentile of the task's samples, in tokens."""
    histogram = task["histograms"]["sample_tokens"]
    return percentile(histogram, 0.5), percentile(histogram, 0.95)


def is_scored(task: TaskReport) -> bool:
    """Whether any row of the task has a quality score."""
    return any(task["histograms"].get("quality", {"edges": [], "counts": []})["counts"])


def merged(histograms: Iterable[Histogram]) -> Histogram:
    """The sum of histograms with the same edges."""
    found = list(histograms)
    edges = found[0]["edges"]
    assert all(one["edges"] == edges for one in found), "histograms to merge share their edges"
    counts = [sum(bins) for bins in zip(*(one["counts"] for one in found), strict=True)]
    return {"edges": edges, "counts": counts}


def next_power_of_two(value: float) -> int:
    """The smallest power of two that is at least ``value``."""
    return int(2 ** math.ceil(math.log2(max(1.0, value))))
