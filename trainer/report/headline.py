"""An evaluation in a handful of figures: never the mean alone."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import fmean

from trainer.evaluation.results import ORDINARY, Evaluation, Figure
from trainer.report.combining import difference, mean_of


@dataclass(frozen=True)
class Headline:
    """What a person looks at first. None stands for what was not judged.

    Attributes:
        scores: specialised task -> main metric on the ordinary set.
        mean: of ``scores``; its interval takes the tasks as given and their rows as drawn.
        worst, best: lowest and highest score, with that task's own interval.
        spread: best - worst.
        crosstalk: prompt set -> rate.
        in_format, in_format_processed: mean share of answers of specialised tasks that keep their
            format, as generated and after post-processing, on the ordinary set.
        general: mean score of the general tasks.
        loss, general_loss: mean evaluation loss of specialised and of general tasks, in nats.
    """

    scores: dict[str, Figure]
    mean: Figure | None
    worst: Figure | None
    worst_task: str
    best: Figure | None
    best_task: str
    spread: Figure | None
    crosstalk: dict[str, Figure]
    in_format: Figure | None
    in_format_processed: Figure | None
    general: Figure | None
    loss: float | None
    general_loss: float | None


def headline(evaluation: Evaluation) -> Headline:
    """The headline figures of an evaluation."""
    scores = {task: score for task in evaluation.special if (score := score_of(evaluation, task))}
    order = sorted(scores, key=lambda task: (scores[task].value, task))
    worst = scores[order[0]] if order else None
    best = scores[order[-1]] if order else None
    sets = [one.sets[ORDINARY] for one in evaluation.special.values() if ORDINARY in one.sets]
    general = [found for task in evaluation.general if (found := score_of(evaluation, task))]
    return Headline(
        scores=scores,
        mean=mean_of(list(scores.values())),
        worst=worst,
        worst_task=order[0] if order else "",
        best=best,
        best_task=order[-1] if order else "",
        spread=_spread(best, worst) if best and worst else None,
        crosstalk={name: one.rate for name, one in evaluation.crosstalk.items()},
        in_format=mean_of([one.in_format for one in sets]),
        in_format_processed=mean_of([one.in_format_processed for one in sets]),
        general=mean_of(general),
        loss=_mean([one.loss for one in evaluation.special.values()]),
        general_loss=_mean([one.loss for one in evaluation.general.values()]),
    )


def score_of(evaluation: Evaluation, task: str, prompt_set: str = ORDINARY) -> Figure | None:
    """A task's main metric on a prompt set, where it has one that is a number."""
    result = evaluation.tasks.get(task)
    figure = None if result is None else result.score_on(prompt_set)
    return figure if figure is not None and math.isfinite(figure.value) else None


def _spread(best: Figure, worst: Figure) -> Figure:
    found = difference(best, worst)
    return replace(found, low=max(0.0, found.low), high=min(1.0, found.high))


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None
