"""From generated answers to figures: metrics, formats and behaviours of one task and prompt set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from data_modules.config import TaskConfig
from data_modules.evaluation_rows import EvalRow
from data_modules.unification import unify
from trainer.evaluation.behaviour import BehaviourJudge, count_behaviours
from trainer.evaluation.formats import format_violations
from trainer.evaluation.generate import Answer
from trainer.evaluation.metrics import NO_METRIC, Judged, Metric, measured, metric
from trainer.evaluation.postprocess import processed
from trainer.evaluation.results import Figure, SetResult, share


@dataclass(frozen=True)
class JudgedSet:
    """The answers of one task to one prompt set, judged.

    Attributes:
        predictions: what is kept of every answer, in the order of the rows.
        scores: the main metric of every answer after post-processing; None where it does not judge.
        behaviours: the behaviour of every answer; None where behaviours are not judged.
    """

    result: SetResult
    predictions: list[dict[str, Any]]
    scores: list[float | None]
    behaviours: list[str] | None


def metrics_of(task: TaskConfig) -> dict[str, Metric]:
    """The task's metrics by name, the main one first; none for ``metric: none``."""
    names = dict.fromkeys([task.metric, *task.metrics])
    return {name: metric(name) for name in names if name != NO_METRIC}


def judge_set(
    name: str,
    task: TaskConfig,
    rows: Sequence[EvalRow],
    answers: Sequence[Answer],
    prompts: Sequence[str],
    behaviour: BehaviourJudge | None,
    bootstrap_samples: int,
) -> JudgedSet:
    """Judge a task's answers, as generated and after the task's post-processing.

    Right answers are taken in the task's format, as training answers are.

    Args:
        prompts: the whole prompts as text, kept with the answers.
    """
    texts = [answer.text for answer in answers]
    clean = [processed(text, task) for text in texts]
    raw_rows, clean_rows = (
        [
            Judged(
                request=row.request,
                answer=text,
                gold=unify(row.answer, task).strip(),
                language=row.language,
                finished=answer.finished,
                tests=row.tests,
            )
            for row, answer, text in zip(rows, answers, some, strict=True)
        ]
        for some in (texts, clean)
    )
    raw: dict[str, Figure] = {}
    after: dict[str, Figure] = {}
    scores: dict[str, tuple[list[float | None], list[float | None]]] = {}
    for one, judged_by in metrics_of(task).items():
        seed = f"{name}/{one}"
        figure, row_scores = measured(judged_by, raw_rows, bootstrap_samples, seed)
        figure_after, scores_after = measured(judged_by, clean_rows, bootstrap_samples, seed)
        scores[one] = row_scores, scores_after
        # which rows are judged does not depend on the answers
        if figure is not None and figure_after is not None:
            raw[one], after[one] = figure, figure_after
    broken = [format_violations(text, task) for text in texts]
    broken_after = [format_violations(text, task) for text in clean]
    shown = (
        None
        if behaviour is None or name not in behaviour.tasks
        else behaviour.behaviours(name, [row.request for row in rows], texts)
    )
    result = SetResult(
        rows=len(rows),
        raw=raw,
        processed=after,
        truncated=sum(not answer.finished for answer in answers),
        in_format=share(broken.count([]), len(rows)),
        in_format_processed=share(broken_after.count([]), len(rows)),
        behaviours={} if shown is None else count_behaviours(shown, [row.language for row in rows]),
    )
    predictions = [
        {
            "origin": row.origin,
            "language": row.language,
            "prompt": prompts[index],
            "request": row.request,
            "answer": texts[index],
            "processed": clean[index],
            "gold": row.answer,
            "finished": answers[index].finished,
            "scores": {one: after_row[index] for one, (_, after_row) in scores.items()},
            "raw_scores": {one: raw_row[index] for one, (raw_row, _) in scores.items()},
            "behaviour": None if shown is None else shown[index],
            "format_violations": broken[index],
            "processed_violations": broken_after[index],
        }
        for index, row in enumerate(rows)
    ]
    main: list[float | None] = [None] * len(rows)
    if task.metric in scores:
        main = scores[task.metric][1]
    return JudgedSet(result, predictions, main, shown)
