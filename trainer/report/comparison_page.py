"""Runs side by side: one self-contained page and one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainer.evaluation.results import Figure
from trainer.report.cells import NOTHING, cool, hot
from trainer.report.comparison import Comparison, Group, Measure
from trainer.report.comparison_table import difference_text, value_text, verdict
from trainer.report.page import run_environment
from trainer.report.pictures import fonts, heat, name_ticks, new_figure
from trainer.run_directory import write_text

_COLOURS = ("l0", "l1", "l2", "l3", "l4", "l5")  # of page.css


def write_comparison(comparison: Comparison, folder: Path) -> Path:
    """Write ``comparison.html`` and ``comparison.png`` to a folder.

    Returns:
        The page.
    """
    path = folder / "comparison.html"
    write_text(path, render_comparison(comparison))
    with fonts():
        _draw(comparison, folder / "comparison.png")
    return path


def render_comparison(comparison: Comparison) -> str:
    """The page; names of runs and tasks are escaped."""
    whole = [one for one in comparison.measures if not one.key.startswith("task/")]
    tasks = [one for one in comparison.measures if one.key.startswith("task/")]
    return (
        run_environment()
        .get_template("comparison.html.jinja")
        .render(
            groups=[
                {"name": group.name, "by": group.by, "runs": group.runs, "colour": _colour(number)}
                for number, group in enumerate(comparison.groups)
            ],
            rare=comparison.rare_tasks,
            headings=[one for one in whole if one.key in ("mean", "worst", "best")]
            + [one for one in whole if one.key.startswith("crosstalk/")]
            + [one for one in whole if one.key in ("in_format_processed", "general_after", "rare")],
            plots={one.key: _plot(comparison, one) for one in whole if one.is_share},
            blocks=[
                ("whole", [_line(comparison, one) for one in whole]),
                ("tasks", [_line(comparison, one) for one in tasks]),
            ],
        )
    )


def _colour(number: int) -> str:
    return _COLOURS[number] if number < len(_COLOURS) else "other"


def _line(comparison: Comparison, measure: Measure) -> dict[str, Any]:
    return {
        "key": measure.key,
        "title": measure.title,
        "cells": [_cell(group, measure) for group in comparison.groups],
    }


def _cell(group: Group, measure: Measure) -> dict[str, str]:
    figure = group.figures.get(measure.key)
    if figure is None:
        return {"value": NOTHING, "difference": "", "verdict": "", "kind": "zero"}
    difference = group.differences.get(measure.key)
    shown = difference if measure.better else None
    return {
        "value": value_text(figure, measure),
        "difference": "" if shown is None else difference_text(shown, measure),
        "verdict": "" if shown is None else verdict(shown, measure),
        "kind": _kind(figure, measure),
    }


def _kind(figure: Figure, measure: Measure) -> str:
    if not measure.is_share or measure.key == "spread":
        return ""
    return cool(figure.value) if measure.better >= 0 else hot(figure.value)


def _plot(comparison: Comparison, measure: Measure) -> list[dict[str, Any]]:
    """Every group's interval on one axis: from 0 to 1, or for crosstalk to a round share above all."""
    figures = [group.figures.get(measure.key) for group in comparison.groups]
    highest = max((one.high for one in figures if one is not None), default=1.0)
    steps = (0.02, 0.05, 0.1, 0.2, 0.5)
    high = next((step for step in steps if measure.better < 0 and highest <= step), 1.0)
    lines = []
    for number, (group, one) in enumerate(zip(comparison.groups, figures, strict=True)):
        if one is None:
            continue
        low, top, at = (min(1.0, max(0.0, x / high)) for x in (one.low, one.high, one.value))
        lines.append(
            {
                "name": group.name,
                "colour": _colour(number),
                "low": round(100 * low, 2),
                "width": round(100 * (top - low), 2),
                "at": round(100 * at, 2),
                "text": value_text(one, measure),
                "high": f"{100 * high:g} %",
            }
        )
    return lines


def _draw(comparison: Comparison, path: Path) -> None:
    """Intervals of the main figures above a table task x group."""
    shown = [
        one
        for one in comparison.measures
        if one.is_share and not one.key.startswith("task/") and one.key != "in_format"
    ]
    tasks = [one for one in comparison.measures if one.key.startswith("task/")]
    names = [group.name for group in comparison.groups]
    lines = len(shown) * (0.25 + 0.12 * len(names))
    figure = new_figure(8 + 0.9 * len(names), 1.6 + max(lines, 0.3 * len(tasks)))
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    step = 0.8 / len(names)
    for number, group in enumerate(comparison.groups):
        for row, measure in enumerate(shown):
            one = group.figures.get(measure.key)
            if one is not None:
                at = row - 0.4 + step * (number + 0.5)
                left.plot([100 * one.low, 100 * one.high], [at, at], color=f"C{number % 10}", lw=2)
                left.plot([100 * one.value], [at], "o", color=f"C{number % 10}", ms=5)
        label = group.name if len(group.name) < 30 else group.name[:29] + "…"
        left.plot(
            [], [], "o-", color=f"C{number % 10}", label=label.lstrip("_").replace("$", r"\$")
        )
    left.set_ylim(len(shown) - 0.5, -0.5)
    left.set_xlim(-2, 102)
    left.grid(axis="x", color="0.9")
    name_ticks(left.yaxis, [one.title for one in shown])
    left.set_xlabel("%, with 95 % interval")
    left.legend(loc="best", fontsize=8)
    if tasks:
        grid = [
            [
                100 * group.figures[one.key].value if one.key in group.figures else float("nan")
                for group in comparison.groups
            ]
            for one in tasks
        ]
        heat(right, grid)
        name_ticks(right.yaxis, [one.title for one in tasks])
        name_ticks(right.xaxis, names, 30 if len(names) > 3 else 0)
        right.set_title("score by task, %")
    else:
        right.set_axis_off()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
