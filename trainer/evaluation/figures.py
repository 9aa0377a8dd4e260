"""An evaluation as flat figures for ``metrics.jsonl`` and its other sinks."""

from __future__ import annotations

from trainer.evaluation.results import ORDINARY, Evaluation
from trainer.evaluation.soft_crosstalk import rate


def figures_of(evaluation: Evaluation) -> dict[str, float]:
    """``eval/<what>/<prompt set>/<task>`` -> value; the ordinary set's name is left out."""
    values: dict[str, float] = {}
    for task, result in evaluation.tasks.items():
        values[f"eval/loss/{task}"] = result.loss
        if result.train_loss is not None:
            values[f"eval/train_loss/{task}"] = result.train_loss
        for name, one in result.sets.items():
            inner = "" if name == ORDINARY else f"{name}/"
            score = result.score_on(name)
            if score is not None:
                values[f"eval/score/{inner}{task}"] = score.value
            values[f"eval/in_format/{inner}{task}"] = one.in_format.value
    for name, crosstalk in evaluation.crosstalk.items():
        values[f"eval/crosstalk/{name}"] = crosstalk.rate.value
        for task, figure in crosstalk.per_task.items():
            values[f"eval/crosstalk/{name}/{task}"] = figure.value
    if evaluation.soft_crosstalk:
        values["eval/soft_crosstalk"] = rate(evaluation.soft_crosstalk)
    return values
