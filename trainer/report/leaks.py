"""Sections on crosstalk: whose behaviour answers show, who pollutes, what limits each task."""

from __future__ import annotations

from typing import Any

from trainer.evaluation.results import MIXED, NONE, ORDINARY, Crosstalk, Evaluation
from trainer.evaluation.soft_crosstalk import rate
from trainer.report.cells import (
    NOTHING,
    Cell,
    HeatTable,
    Row,
    between,
    cool,
    either,
    heat_table,
    hot,
    matrix,
    percent,
    rate_cell,
    share_text,
    signed,
)
from trainer.report.headline import score_of
from trainer.report.scores import marks_of
from trainer.run_facts import RunFacts

_PAIRS = 12  # largest leaks that are listed
_POLLUTERS = 8
_UNSEEN = 0.0005  # shown as 0
#: Share from which neither routing nor skill is called what limits a task.
_ENOUGH = 0.95


def crosstalk(facts: RunFacts) -> dict[str, Any]:
    """Rates through the phases and by language, largest leaks, and every prompt set's matrix."""
    last = facts.last
    if last is None or not last.crosstalk:
        return {"gap": _why_not(facts)}
    worst = max(last.crosstalk, key=lambda name: (last.crosstalk[name].rate.value, name))
    return {
        "gap": "",
        "rates": _rates(facts, last),
        "languages": _languages(last),
        "pairs": _pairs(last),
        "tasks": _tasks(last),
        "sets": [
            {
                "name": name,
                "rate": f"{percent(one.rate.value)} ({between(one.rate)})",
                "open": name == worst,
                "matrix": _matrix(one, last),
                "polluters": _polluters(one),
                "routing": _routing(one, last, name),
            }
            for name, one in last.crosstalk.items()
        ],
    }


def _why_not(facts: RunFacts) -> str:
    settings = facts.config.get("evaluation", {})
    if not settings.get("behaviours", True):
        return "behaviours were not judged: evaluation.behaviours=false"
    if not settings.get("generate", True):
        return "no answers were generated: evaluation.generate=false"
    return "behaviours are judged where at least two tasks have a metric and the run was evaluated"


def _rates(facts: RunFacts, last: Evaluation) -> HeatTable:
    """Prompt set x column."""
    evaluations = facts.evaluations.values()
    high = max(one.rate.value for every in evaluations for one in every.crosstalk.values())
    rows = []
    for name, found in last.crosstalk.items():
        figures = [
            one.crosstalk[name].rate if name in one.crosstalk else None for one in evaluations
        ]
        cells = [rate_cell(figure, high) for figure in figures]
        rows.append(Row(name, [*cells, Cell(between(found.rate))]))
    return heat_table("prompt set", [*facts.evaluations, "95 % interval"], rows)


def _languages(last: Evaluation) -> HeatTable:
    """Language x prompt set."""
    languages = sorted({one for found in last.crosstalk.values() for one in found.per_language})
    high = max(
        (f.value for c in last.crosstalk.values() for f in c.per_language.values()), default=0
    )
    rows = [
        Row(
            language or "unknown",
            [rate_cell(one.per_language.get(language), high) for one in last.crosstalk.values()],
        )
        for language in languages
    ]
    return heat_table("language", list(last.crosstalk), rows)


def _pairs(last: Evaluation) -> list[dict[str, Any]]:
    """The largest cells of all matrices off the diagonal; right answers' own share not taken off."""
    found = [
        (share, name, task, label)
        for name, one in last.crosstalk.items()
        for task, line in zip(one.tasks, one.matrix, strict=True)
        if not last.tasks[task].general
        for label, share in zip(one.labels, line, strict=True)
        if label not in (task, MIXED, NONE) and share > 0
    ]
    found.sort(key=lambda one: (-one[0], *one[1:]))
    return [
        {"set": name, "asked": task, "shown": label, "share": percent(share), "kind": hot(share)}
        for share, name, task, label in found[:_PAIRS]
    ]


def _tasks(last: Evaluation) -> HeatTable:
    """Task x prompt set, with the share of right answers that the judge takes for others'."""
    names = sorted({task for one in last.crosstalk.values() for task in one.per_task})
    high = max(f.value for one in last.crosstalk.values() for f in one.per_task.values())
    rows = []
    for task in names:
        cells = [rate_cell(one.per_task.get(task), high) for one in last.crosstalk.values()]
        intervals = [
            Cell(between(one.per_task[task]) if task in one.per_task else NOTHING)
            for one in last.crosstalk.values()
        ]
        gold = max(one.gold_rate.get(task, 0.0) for one in last.crosstalk.values())
        cells = [cell for pair in zip(cells, intervals, strict=True) for cell in pair]
        rows.append(Row(task, [*cells, Cell(share_text(gold, False))]))
    columns = [text for name in last.crosstalk for text in (name, "95 % interval")]
    table = heat_table("task", [*columns, "right answers"], rows)
    return HeatTable(table.corner, table.columns, table.rows, table.foot)


def _matrix(found: Crosstalk, last: Evaluation) -> HeatTable:
    def kind(task: str, label: str, share: float) -> str:
        if label in (MIXED, NONE):
            return f"g{hot(share)[1:]}" if share > 0 else ""
        return cool(share) if label == task else hot(share)

    return matrix(
        "asked", found.tasks, found.labels, found.matrix, kind, share_text, marks_of(last)
    )


def _polluters(found: Crosstalk) -> list[dict[str, Any]]:
    """Behaviours that most answers of other tasks show."""
    order = sorted(found.polluters, key=lambda name: (-found.polluters[name], name))
    order = [name for name in order if found.polluters[name] > 0][:_POLLUTERS]
    high = found.polluters[order[0]] if order else 1.0
    return [
        {
            "name": name,
            "share": percent(found.polluters[name]),
            "width": round(100 * found.polluters[name] / high, 2),
        }
        for name in order
    ]


def _routing(found: Crosstalk, last: Evaluation, prompt_set: str) -> HeatTable:
    """Score = routing x skill: the lower one says whether to mend boundaries or data."""
    rows = []
    for task, routing in sorted(found.routing.items()):
        score, skill = score_of(last, task, prompt_set), found.skill.get(task)
        rows.append(
            Row(
                task,
                [
                    Cell(NOTHING, "zero")
                    if score is None
                    else Cell(percent(score.value), cool(score.value)),
                    Cell(percent(routing), cool(routing)),
                    Cell(NOTHING, "zero") if skill is None else Cell(percent(skill), cool(skill)),
                    Cell(_limit(routing, skill)),
                ],
            )
        )
    return heat_table("task", ["score", "routing", "skill", "limited by"], rows)


def _limit(routing: float, skill: float | None) -> str:
    if skill is None or routing < min(skill, _ENOUGH):
        return "routing: boundaries"
    return "skill: data" if skill < _ENOUGH else NOTHING


def soft_crosstalk(facts: RunFacts) -> dict[str, Any]:
    """Where the first token's probability goes, in excess of right answers'."""
    last = facts.last
    if last is None or not last.soft_crosstalk:
        rows = facts.config.get("evaluation", {}).get("soft_crosstalk_rows", 0)
        why = "evaluation.soft_crosstalk_rows=0" if not rows else "it needs two specialised tasks"
        return {"gap": why}
    asked = list(last.soft_crosstalk)
    columns = list(dict.fromkeys(name for line in last.soft_crosstalk.values() for name in line))
    values = [[last.soft_crosstalk[task].get(name, 0.0) for name in columns] for task in asked]
    most = max((abs(value) for line in values for value in line), default=0.0)

    def kind(task: str, other: str, value: float) -> str:
        if abs(value) < _UNSEEN:
            return ""
        # In excess of the own manner is good, of another's bad.
        return either(value if task == other else -value, most)

    def text(value: float, narrow: bool) -> str:
        if abs(value) < (0.005 if narrow else _UNSEEN):
            return "·"
        return signed(value).split(".")[0] if narrow else signed(value)

    return {
        "gap": "",
        "matrix": matrix("asked", asked, columns, values, kind, text, {}),
        "rates": [
            (column, percent(rate(one.soft_crosstalk)))
            for column, one in facts.evaluations.items()
            if one.soft_crosstalk
        ],
        "ordinary": ORDINARY,
    }
