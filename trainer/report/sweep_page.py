"""The page of a sweep: self-contained, without a script; names and values are escaped."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from trainer.config.measures import MAXIMIZE
from trainer.report.cells import (
    NOTHING,
    Cell,
    HeatTable,
    Row,
    cool,
    either,
    heat_table,
    hot,
    percent,
)
from trainer.report.comparison import Measure
from trainer.report.comparison_table import difference_text, value_text, verdict
from trainer.report.page import run_environment
from trainer.report.sweep import Point, SweepFacts
from trainer.report.sweep_effects import Scale, by_rank, means, ranks, scales, shown_measures
from trainer.run_directory import write_text
from trainer.sweep_record import AxisRecord

_BEST = 15  # rows of the table of best runs
_LOWER, _HIGHER = 6.0, 94.0  # of the height of a drawing


def write_sweep_page(facts: SweepFacts) -> Path:
    """Write ``sweep.html`` into the sweep's folder."""
    path = facts.folder / "sweep.html"
    write_text(path, render_sweep(facts))
    return path


def render_sweep(facts: SweepFacts) -> str:
    """The page."""
    record = facts.record
    return (
        run_environment()
        .get_template("sweep.html.jinja")
        .render(
            record=record,
            facts=facts,
            words=_words(facts),
            axes=[_axis_words(facts, axis.key) for axis in facts.axes],
            parallel=_parallel(facts),
            best=_best(facts),
            versus=_versus(facts),
            effects=_effects(facts),
            history=_history(facts) if record.kind == "search" else None,
            front=[one.name for one in facts.front],
            states=_states(facts),
            measures=[(name, way) for name, way in facts.objectives.items()],
            colours=_colours(facts),
        )
    )


def _words(facts: SweepFacts) -> str:
    """One sentence: what there is, and the best of it."""
    record, best = facts.record, facts.points[0]
    kind = "trials of a search" if record.kind == "search" else "runs of a grid"
    done = sum(len(one.runs) for one in facts.points)
    words = f"{done} of {len(record.runs)} {kind} have figures"
    if not facts.objectives:
        return f"{words}; none of them has the objective {', '.join(record.objectives)}."
    name, way = next(iter(facts.objectives.items()))
    measure = facts.measure(name)
    if facts.front:
        words += f"; {len(facts.front)} are beaten by none in all of {', '.join(facts.objectives)}"
    end = "highest" if way == MAXIMIZE else "lowest"
    words += f". The {end} {name}: {value_text(best.figures[name], measure)}"
    words += " %" if measure.is_share else ""
    words += f" ({best.name})"
    if facts.default is not None and facts.default is not best:
        words += f"; the default has {value_text(facts.default.figures[name], measure)}"
        words += " %" if measure.is_share else ""
    return f"{words}."


def _axis_words(facts: SweepFacts, key: str) -> tuple[str, str, str]:
    axis = next(one for one in facts.axes if one.key == key)
    if axis.kind == "choice":
        return axis.title, axis.key, ", ".join(axis.choices)
    scale = ", logarithmic" if axis.log else ""
    return axis.title, axis.key, f"{axis.low:g} to {axis.high:g}{scale}"


def _colours(facts: SweepFacts) -> list[str]:
    """A class for every point, the best first: it and the default stand out, the rest by rank."""
    count = len(facts.points)
    found = []
    for place, point in enumerate(facts.points):
        if point.is_default and place:
            found.append("default")
        elif not place or point in facts.front:
            found.append("best")
        else:
            found.append(f"q{min(3, 4 * place // count)}")
    return found


def _parallel(facts: SweepFacts) -> dict[str, Any]:
    """Lines over axes at equal distances; the worst first, so that the best lie on top."""
    axes = scales(facts)
    xs = [round(100 * (i + 0.5) / len(axes), 3) for i in range(len(axes))]
    lines = []
    for place, colour in reversed(list(enumerate(_colours(facts)))):
        parts: list[list[str]] = [[]]
        for x, axis in zip(xs, axes, strict=True):
            at = axis.places[place]
            if at is None:
                parts.append([])
            else:
                parts[-1].append(f"{x},{_height(at)}")
        point = facts.points[place]
        lines.append(
            {
                "kind": colour,
                "name": point.name,
                "parts": [" ".join(part) for part in parts if len(part) > 1],
            }
        )
    lines.sort(key=lambda one: ("q" not in one["kind"], one["kind"] == "best"))
    return {"axes": [_ruler(x, axis) for x, axis in zip(xs, axes, strict=True)], "lines": lines}


def _ruler(x: float, axis: Scale) -> dict[str, Any]:
    ticks = [(_height(at), text) for at, text in axis.ticks]
    if len(ticks) > 12:
        ticks = [ticks[0], ticks[-1]]
    return {"x": x, "title": axis.title, "ticks": ticks, "is_goal": axis.is_goal}


def _height(at: float) -> float:
    """A place from 0 to 1, measured from the top in per cent."""
    return round(_HIGHER - (_HIGHER - _LOWER) * min(1.0, max(0.0, at)), 2)


def _best(facts: SweepFacts) -> dict[str, Any]:
    """The best points with their values and figures, and how they differ from the default or the best."""
    goals = [facts.measure(name) for name in facts.objectives]
    others = [one for one in shown_measures(facts) if one.key not in facts.objectives]
    others = [one for one in others if not one.key.startswith("task/")][:5]
    against = facts.default or facts.points[0]
    shown = list(facts.points[:_BEST])
    if facts.default is not None and facts.default not in shown:
        shown.append(facts.default)
    rows = []
    for point in shown:
        cells = [_figure(facts, point, against, one) for one in goals]
        cells += [_figure(facts, point, None, one) for one in others]
        rows.append(
            {
                "place": facts.points.index(point) + 1,
                "name": point.name,
                "mark": "default" if point.is_default else "",
                "seeds": len(point.runs),
                "values": [_value(axis, point.values.get(axis.key)) for axis in facts.axes],
                "cells": cells,
            }
        )
    return {
        "columns": [one.key for one in (*goals, *others)],
        "rows": rows,
        "against": against.name,
        "left": len(facts.points) - len(shown),
    }


def _value(axis: AxisRecord, text: str | None) -> str:
    """A value as a table shows it; ``sweep.json`` has all its digits."""
    if text is None:
        return NOTHING
    return text if axis.kind == "choice" else f"{float(text):.4g}"


def _figure(
    facts: SweepFacts, point: Point, against: Point | None, measure: Measure
) -> dict[str, str]:
    figure = point.figures.get(measure.key)
    if figure is None:
        return {"value": NOTHING, "difference": "", "verdict": "", "kind": "zero"}
    difference = None
    if against is not None and against is not point:
        difference = facts.difference(point, against, measure.key)
    return {
        "value": value_text(figure, measure),
        "difference": "" if difference is None else difference_text(difference, measure),
        "verdict": "" if difference is None else verdict(difference, measure),
        "kind": _kind(figure.value, measure),
    }


def _kind(value: float, measure: Measure) -> str:
    if not measure.is_share or measure.key == "spread":
        return ""
    return cool(value) if measure.better >= 0 else hot(value)


def _versus(facts: SweepFacts) -> list[dict[str, str]]:
    """Default against best, measure by measure."""
    default, best = facts.default, facts.points[0]
    if default is None or default is best:
        return []
    found = []
    for measure in shown_measures(facts):
        a, b = default.figures.get(measure.key), best.figures.get(measure.key)
        difference = facts.difference(best, default, measure.key)
        if a is not None and b is not None and difference is not None:
            found.append(
                {
                    "title": measure.key,
                    "default": value_text(a, measure),
                    "best": value_text(b, measure),
                    "difference": difference_text(difference, measure),
                    "verdict": verdict(difference, measure),
                }
            )
    return found


def _effects(facts: SweepFacts) -> dict[str, Any]:
    """Tables: means by value for every axis with choices, and rank correlations for those with numbers."""
    tables = []
    for axis in facts.axes:
        found = means(facts, axis)
        if found is not None:
            columns = [
                f"{text} ({count})" for text, count in zip(found.values, found.counts, strict=True)
            ]
            rows = [
                Row(measure.key, [_mean_cell(value, measure) for value in line])
                for measure, line in found.lines
            ]
            tables.append((axis.title, axis.key, heat_table("", columns, rows)))
    return {"means": tables, "ranks": _rank_table(facts)}


def _mean_cell(value: float, measure: Measure) -> Cell:
    if not math.isfinite(value):
        return Cell(NOTHING, "zero")
    if not measure.is_share:
        return Cell(f"{value:.3f}")
    return Cell(percent(value), _kind(value, measure))


def _rank_table(facts: SweepFacts) -> HeatTable | None:
    axes = by_rank(facts)
    if not axes:
        return None
    rows = []
    for measure in shown_measures(facts):
        cells = []
        for axis in axes:
            found = ranks(facts, axis, measure)
            if found is None:
                cells.append(Cell(NOTHING, "zero"))
            else:
                mark = " *" if found.is_sure else ""
                text = f"{found.value:+.2f}{mark}".replace("-", "−")
                sign = measure.better or 1
                cells.append(Cell(text, either(sign * found.value, 1.0)))
        rows.append(Row(measure.key, cells))
    return heat_table("", [one.title for one in axes], rows)


def _history(facts: SweepFacts) -> dict[str, Any] | None:
    """The first objective, trial by trial, and the best so far."""
    if not facts.objectives:
        return None
    name, way = next(iter(facts.objectives.items()))
    measure = facts.measure(name)
    by_number = {one.number: one.figures[name].value for one in facts.points if name in one.figures}
    left = {
        number: one.phase_ends[-1]
        for number, one in enumerate(facts.record.runs)
        if one.state == "pruned" and one.phase_ends
    }
    values = [*by_number.values(), *left.values()]
    low, high = min(values), max(values)
    room = 0.08 * ((high - low) or 1.0)
    low, high = low - room, high + room
    count = max(1, len(facts.record.runs) - 1)

    def x(number: int) -> float:
        return round(2 + 96 * number / count, 2)

    def y(value: float) -> float:
        return round(100 * (high - value) / (high - low), 2)

    return {
        "title": f"{name} by trial",
        "name": name,
        "dots": [(x(number), y(value)) for number, value in by_number.items()],
        "left": [(x(number), y(value)) for number, value in left.items()],
        "best": " ".join(_stairs(by_number, way, x, y)),
        "ticks": [
            (y(value), f"{100 * value:.1f} %" if measure.is_share else f"{value:.3f}")
            for value in (low + room, (low + high) / 2, high - room)
        ],
        "trials": [(x(number), str(number)) for number in sorted({0, count // 2, count})],
    }


def _stairs(by_number: dict[int, float], way: str, x: Any, y: Any) -> list[str]:
    pick = max if way == MAXIMIZE else min
    points: list[str] = []
    so_far: float | None = None
    for number in sorted(by_number):
        now = by_number[number] if so_far is None else pick(so_far, by_number[number])
        if so_far is not None and now != so_far:
            points.append(f"{x(number)},{y(so_far)}")
        points.append(f"{x(number)},{y(now)}")
        so_far = now
    return points


def _states(facts: SweepFacts) -> list[dict[str, str]]:
    """Every run of the sweep and what became of it."""
    titles = {axis.key: axis.title for axis in facts.record.axes}
    stems = [
        {
            "name": one.name,
            "values": f"phases {', '.join(one.phases)}, trained once",
            "from": _stem(one.parent),
            "state": "shared",
        }
        for one in facts.record.stems
    ]
    return stems + [
        {
            "name": one.name,
            "values": _values(titles, one.values),
            "from": _stem(one.parent),
            "state": facts.unfinished.get(one.name, "finished"),
        }
        for one in facts.record.runs
    ]


def _values(titles: dict[str, str], values: dict[str, str]) -> str:
    return ", ".join(f"{titles.get(key, key)}={text}" for key, text in values.items())


def _stem(parent: str | None) -> str:
    return NOTHING if parent is None else parent
