"""Sample outputs of every task: right, wrong, leaking and cut answers, as the model gave them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from trainer.evaluation.results import MIXED, NONE, ORDINARY
from trainer.run_facts import RunFacts
from trainer.summary import special_first

_LEAKS = 2
Prediction = dict[str, Any]


def samples(facts: RunFacts) -> dict[str, Any]:
    """A few answers of every task after the last evaluation; the first of each kind, in row order."""
    last = facts.last
    if last is None:
        return {"gap": "the run was not evaluated"}
    column = list(facts.evaluations)[-1]
    tasks = []
    for task in special_first(last, list(last.tasks)):
        by_set = {
            name: found
            for name in last.tasks[task].sets
            if (found := facts.predictions(column, name, task))
        }
        shown = list(_chosen(task, last.tasks[task].metric, by_set))
        if shown:
            tasks.append({"name": task, "general": last.tasks[task].general, "shown": shown})
    if not tasks:
        return {"gap": "no answers were kept: evaluation.generate, data.tasks.NAME.metric"}
    return {"gap": "", "column": column, "tasks": tasks}


def _chosen(
    task: str, metric: str, by_set: dict[str, list[Prediction]]
) -> Iterator[dict[str, Any]]:
    ordinary = by_set.get(ORDINARY, [])
    scored = [one for one in ordinary if _score(one, metric) is not None and not _leaks(one, task)]
    if scored:
        best = max(scored, key=lambda one: _score(one, metric) or 0.0)
        worst = min(scored, key=lambda one: _score(one, metric) or 0.0)
        top, bottom = _score(best, metric), _score(worst, metric)
        if top:
            yield _shown("right" if top == 1 else "best", best, ORDINARY, metric)
        if worst is not best and bottom is not None and bottom < 1:
            yield _shown("wrong" if bottom == 0 else "worst", worst, ORDINARY, metric)
    yield from _first("leak", by_set, metric, lambda one: _leaks(one, task), _LEAKS)
    yield from _first("mixed", by_set, metric, lambda one: one.get("behaviour") == MIXED, 1)
    yield from _first("cut", by_set, metric, lambda one: not one["finished"], 1)


def _leaks(one: Prediction, task: str) -> bool:
    return one.get("behaviour") not in (None, task, MIXED, NONE)


def _first(
    kind: str,
    by_set: dict[str, list[Prediction]],
    metric: str,
    wanted: Callable[[Prediction], bool],
    most: int,
) -> Iterator[dict[str, Any]]:
    found = ((name, one) for name, every in by_set.items() for one in every if wanted(one))
    for _, (name, one) in zip(range(most), found, strict=False):
        yield _shown(kind, one, name, metric)


def _score(one: Prediction, metric: str) -> float | None:
    value = one["scores"].get(metric)
    return None if value is None else float(value)


def _shown(kind: str, one: Prediction, prompt_set: str, metric: str) -> dict[str, Any]:
    score = _score(one, metric)
    return {
        "kind": kind,
        "set": prompt_set,
        "origin": str(one["origin"]),
        "request": str(one["request"]),
        "answer": str(one["answer"]),
        "gold": str(one["gold"]),
        "behaviour": one.get("behaviour") or "",
        "score": "" if score is None else f"{score:.2f}",
        "finished": bool(one["finished"]),
        "violations": [str(rule) for rule in one.get("format_violations", [])],
    }
