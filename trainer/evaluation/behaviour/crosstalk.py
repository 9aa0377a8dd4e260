"""From the behaviours of a prompt set's answers to its crosstalk."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from trainer.evaluation.results import MIXED, NONE, Crosstalk, Figure, wilson

#: Language of the request -> behaviour -> answers: ``SetResult.behaviours``.
Behaviours = Mapping[str, Mapping[str, int]]


def count_behaviours(
    behaviours: Sequence[str], languages: Sequence[str]
) -> dict[str, dict[str, int]]:
    """``SetResult.behaviours``: the answers of one task, by language of the request."""
    counts: dict[str, Counter[str]] = {}
    for behaviour, language in zip(behaviours, languages, strict=True):
        counts.setdefault(language, Counter())[behaviour] += 1
    return {language: dict(sorted(counts[language].items())) for language in sorted(counts)}


def crosstalk(
    behaviours: Mapping[str, Behaviours],
    general: Collection[str],
    gold_rates: Mapping[str, float],
    own_scores: Mapping[str, Sequence[float]],
) -> Crosstalk:
    """The crosstalk of one prompt set.

    Shares of single tasks have Wilson intervals. Means over tasks have the interval that follows from
    those of the tasks, taken as independent (MOVER: Zou and Donner 2008, Statistics in Medicine 27):
    unlike a bootstrap over rows it does not shrink to nothing where no leak was seen.

    Args:
        behaviours: task -> its answers' behaviours by language; tasks without answers are no rows.
        general: the general tasks; the others are specialised.
        gold_rates: task -> share of right answers judged as another task's (0 where absent).
        own_scores: specialised task -> main metric of each of its answers with the own behaviour.

    Returns:
        Columns are the tasks with answers, then other tasks that some answer shows, ``mixed`` and
        ``none``.
    """
    totals = {task: _total(by_language) for task, by_language in behaviours.items()}
    answered = [task for task, counts in totals.items() if counts.total()]
    special = [task for task in answered if task not in general]
    tasks = [*special, *(task for task in answered if task in general)]
    seen = {label for counts in totals.values() for label in counts}
    others = sorted(seen - {*tasks, MIXED, NONE})
    labels = [*tasks, *others, MIXED, NONE]
    matrix = [[totals[task][label] / totals[task].total() for label in labels] for task in tasks]
    share_of = {
        task: dict(zip(labels, row, strict=True)) for task, row in zip(tasks, matrix, strict=True)
    }
    per_task = {task: _rate(totals[task], task, gold_rates.get(task, 0.0)) for task in special}
    languages = sorted({language for task in special for language in behaviours[task]})
    per_language = {
        language: _mean(
            [
                _rate(counts, task, gold_rates.get(task, 0.0))
                for task in special
                if (counts := Counter(behaviours[task].get(language, {}))).total()
            ]
        )
        for language in languages
    }
    return Crosstalk(
        tasks=tasks,
        labels=labels,
        matrix=matrix,
        rate=_mean(list(per_task.values())),
        per_task=per_task,
        per_language=per_language,
        polluters={
            label: sum(share_of[task][label] for task in victims) / len(victims)
            for label in (*tasks, *others)
            if (victims := [task for task in special if task != label])
        },
        routing={task: share_of[task][task] for task in special},
        skill={
            task: sum(scores) / len(scores) if (scores := own_scores.get(task, ())) else None
            for task in special
        },
        gold_rate={task: gold_rates.get(task, 0.0) for task in special},
    )


def _total(by_language: Behaviours) -> Counter[str]:
    return sum((Counter(counts) for counts in by_language.values()), Counter())


def _rate(counts: Counter[str], task: str, gold_rate: float) -> Figure:
    """Share of other tasks' behaviours, less the rate of right answers."""
    n = counts.total()
    share = sum(number for label, number in counts.items() if label not in (task, MIXED, NONE)) / n
    low, high = wilson(share, n)
    value, low, high = (max(0.0, one - gold_rate) for one in (share, low, high))
    return Figure(value, low, high, n)


def _mean(figures: Sequence[Figure]) -> Figure:
    """Mean of independent figures; without any, zero of no rows."""
    if not figures:
        return Figure(0.0, 0.0, 0.0, 0)
    n = len(figures)
    value = sum(one.value for one in figures) / n
    below = math.sqrt(sum((one.value - one.low) ** 2 for one in figures)) / n
    above = math.sqrt(sum((one.high - one.value) ** 2 for one in figures)) / n
    return Figure(value, value - below, value + above, sum(one.rows for one in figures))
