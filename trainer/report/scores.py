"""Sections on how good each task is: scores through the phases, prompt sets, metrics, formats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from trainer.evaluation.results import Evaluation, TaskResult
from trainer.report.cells import (
    NOTHING,
    Cell,
    HeatTable,
    Row,
    cool,
    heat_table,
    percent,
    score_cell,
    whisker,
    with_interval,
)
from trainer.report.headline import headline, score_of
from trainer.run_facts import RunFacts
from trainer.summary import special_first


def marks_of(evaluation: Evaluation) -> dict[str, str]:
    """Task -> what is said beside its name, where the name does not say it."""
    return {task: "general" for task in evaluation.general if task != "general"}


def scores(facts: RunFacts) -> dict[str, Any]:
    """Scores through the phases, by prompt set, by metric; evaluation losses."""
    last = facts.last
    if last is None:
        return {"gap": _no_evaluation(facts), "losses": None}
    judged = [task for task in special_first(last, list(last.tasks)) if score_of(last, task)]
    return {
        "gap": "" if judged else "no task has a metric that judges answers: data.tasks.NAME.metric",
        "through": _through(facts, last, judged),
        "sets": _by_set(last, judged),
        "metrics": _metrics(last),
        "losses": _losses(facts, last),
        "metric_names": dict(Counter(last.tasks[task].metric for task in judged)),
    }


def _no_evaluation(facts: RunFacts) -> str:
    if not facts.config.get("evaluation", {}).get("at_phase_end", True):
        return "the run was not evaluated: evaluation.at_phase_end=false"
    return "no phase has ended yet, or no task has evaluation rows"


def _through(facts: RunFacts, last: Evaluation, judged: list[str]) -> HeatTable:
    settings = facts.config["data"]["tasks"]
    rows = []
    for task in judged:
        figure = score_of(last, task)
        assert figure is not None, "judged tasks have a score"
        target = settings.get(task, {}).get("target")
        rows.append(
            Row(
                task,
                [score_cell(score_of(one, task)) for one in facts.evaluations.values()],
                marks_of(last).get(task, ""),
                whisker(figure, target),
            )
        )
    heads = [headline(one) for one in facts.evaluations.values()]
    foot = [
        Row(
            name,
            [score_cell(figure) if figure else Cell(NOTHING) for figure in figures],
            whisker=whisker(figures[-1]) if figures[-1] else None,
        )
        for name, figures in (
            ("mean of tasks", [head.mean for head in heads]),
            ("worst task", [head.worst for head in heads]),
            ("best task", [head.best for head in heads]),
        )
    ]
    spreads = [head.spread for head in heads]
    cells = [Cell(NOTHING) if one is None else Cell(percent(one.value)) for one in spreads]
    foot.append(Row("spread", cells, whisker=whisker(spreads[-1]) if spreads[-1] else None))
    return heat_table("task", list(facts.evaluations), rows, foot, "after the last, 95 % interval")


def _by_set(last: Evaluation, judged: list[str]) -> HeatTable:
    sets = list(dict.fromkeys(name for one in last.tasks.values() for name in one.sets))
    rows = [
        Row(
            task,
            [score_cell(score_of(last, task, name)) for name in sets],
            marks_of(last).get(task, ""),
        )
        for task in judged
    ]
    return heat_table("task", sets, rows)


def _metrics(last: Evaluation) -> list[dict[str, Any]]:
    """Every metric of every task and prompt set, raw and processed."""
    return [
        {
            "task": task,
            "set": name,
            "metric": metric,
            "raw": with_interval(one.raw.get(metric)),
            "processed": with_interval(figure),
            "rows": figure.rows,
        }
        for task in special_first(last, list(last.tasks))
        for name, one in last.tasks[task].sets.items()
        for metric, figure in one.processed.items()
    ]


def _losses(facts: RunFacts, last: Evaluation) -> HeatTable:
    """Evaluation loss in nats per answer token; the colour compares a task with itself.

    Beside the last one stands the loss of training rows, where it was measured.
    """
    with_train = any(one.train_loss is not None for one in last.tasks.values())
    rows = []
    for task in special_first(last, list(last.tasks)):
        values = [
            one.tasks[task].loss if task in one.tasks else None
            for one in facts.evaluations.values()
        ]
        found = [value for value in values if value is not None]
        cells = [
            Cell(NOTHING, "zero")
            if value is None
            else Cell(
                f"{value:.3f}", cool(max(found) - value, 0.0, (max(found) - min(found)) or 1.0)
            )
            for value in values
        ]
        if with_train:
            train = last.tasks[task].train_loss
            cells.append(Cell(NOTHING, "zero") if train is None else Cell(f"{train:.3f}"))
        rows.append(Row(task, cells, marks_of(last).get(task, "")))
    return heat_table("task", [*facts.evaluations, *["training rows"] * with_train], rows)


def formats(facts: RunFacts) -> dict[str, Any]:
    """Share of answers in their task's format, raw and processed, and what they break."""
    last = facts.last
    answered = {} if last is None else {t: one for t, one in last.tasks.items() if one.sets}
    if last is None or not answered:
        return {"gap": "no answers were generated: evaluation.generate, data.tasks.NAME.metric"}
    sets = list(dict.fromkeys(name for one in answered.values() for name in one.sets))
    broken = _violations(facts, list(answered), sets)
    rows = []
    for task in special_first(last, list(answered)):
        cells = []
        for name in sets:
            found = answered[task].sets.get(name)
            if found is None:
                cells += [Cell(NOTHING, "zero")] * 2
            else:
                cells += [score_cell(found.in_format), score_cell(found.in_format_processed)]
        rows.append(Row(task, cells, marks_of(last).get(task, "")))
    return {
        "gap": "",
        "table": heat_table(
            "task", [f"{name}, {how}" for name in sets for how in ("raw", "processed")], rows
        ),
        "truncated": _truncated(answered),
        "violations": broken,
    }


def _truncated(answered: Mapping[str, TaskResult]) -> list[tuple[str, int, int]]:
    """Tasks with answers cut at max_new_tokens: task, cut answers, answers."""
    found = [
        (
            task,
            sum(one.truncated for one in result.sets.values()),
            sum(one.rows for one in result.sets.values()),
        )
        for task, result in answered.items()
    ]
    return sorted((one for one in found if one[1]), key=lambda one: (-one[1] / one[2], one[0]))


def _violations(facts: RunFacts, tasks: list[str], sets: list[str]) -> list[dict[str, Any]]:
    """What the formats' rules found in the answers that were kept, most first."""
    column = list(facts.evaluations)[-1]
    counts: Counter[tuple[str, str]] = Counter()
    after: Counter[tuple[str, str]] = Counter()
    for task in tasks:
        for name in sets:
            for one in facts.predictions(column, name, task):
                counts.update((task, rule) for rule in one["format_violations"])
                after.update((task, rule) for rule in one["processed_violations"])
    return [
        {"task": task, "rule": rule, "raw": count, "processed": after[task, rule]}
        for (task, rule), count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]
