"""A sweep as one PNG: parallel coordinates, the way of the objective, and effects by task."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.config.measures import MAXIMIZE
from trainer.report.comparison import Measure
from trainer.report.pictures import fonts, name_ticks, new_figure, short
from trainer.report.sweep import SweepFacts
from trainer.report.sweep_effects import by_rank, means, ranks, scales, shown_measures

_BEST, _DEFAULT, _REST = "C1", "k", "C0"
_DARK = 0.6  # from here on a cell's colour is too dark for black


def draw_sweep(facts: SweepFacts, path: Path) -> None:
    """Draw the picture of a sweep that has a finished run."""
    with fonts():
        figure = new_figure(12, 8.4)
        grid = figure.add_gridspec(2, 6, height_ratios=(1, 1.15))
        _parallel(figure.add_subplot(grid[0, :]), facts)
        _way(figure.add_subplot(grid[1, :3]), facts)
        _effects(figure.add_subplot(grid[1, 3:]), facts)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)


def _colour(facts: SweepFacts, place: int) -> tuple[str, float, float]:
    """Colour, strength and width of a point's line."""
    point = facts.points[place]
    if point.is_default and place:
        return _DEFAULT, 1.0, 1.8
    if not place or point in facts.front:
        return _BEST, 1.0, 2.6
    return _REST, 0.85 - 0.65 * place / len(facts.points), 1.2


def _parallel(axes: Any, facts: SweepFacts) -> None:
    found = scales(facts)
    for place in reversed(range(len(facts.points))):
        heights = [one.places[place] for one in found]
        colour, strength, width = _colour(facts, place)
        style = "--" if colour == _DEFAULT else "-"
        line = [float("nan") if at is None else at for at in heights]
        order = 3 if colour != _REST else 2
        axes.plot(
            range(len(found)), line, style, color=colour, alpha=strength, lw=width, zorder=order
        )
    for x, scale in enumerate(found):
        axes.axvline(x, color="0.4", lw=0.8, zorder=1)
        ticks = scale.ticks if len(scale.ticks) <= 12 else (scale.ticks[0], scale.ticks[-1])
        for at, text in ticks:
            box = {"facecolor": "w", "edgecolor": "none", "alpha": 0.7, "pad": 0.5}
            label = axes.text(
                x + 0.02, at, short(text), fontsize=8, va="center", bbox=box, zorder=4
            )
            label.set_parse_math(False)
    name_ticks(axes.xaxis, [one.title for one in found])
    axes.xaxis.tick_top()
    axes.set_yticks([])
    axes.set_ylim(-0.06, 1.06)
    axes.set_xlim(-0.15, len(found) - 0.6)
    for side in axes.spines.values():
        side.set_visible(False)
    names = [(_BEST, "-", "beaten by none" if facts.front else "best")]
    if facts.default is not None and facts.default is not facts.points[0]:
        names.append((_DEFAULT, "--", "default"))
    for colour, style, name in [*names, (_REST, "-", "others, better darker")]:
        axes.plot([], [], style, color=colour, label=name)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.01), ncols=3, fontsize=8, frameon=False)


def _way(axes: Any, facts: SweepFacts) -> None:
    """Of a search, its history or the Pareto set; of a grid, every configuration."""
    goals = list(facts.objectives.items())
    if not goals:
        axes.set_axis_off()
    elif len(goals) > 1:
        _front(axes, facts)
    elif facts.record.kind == "search":
        _history(axes, facts, *goals[0])
    else:
        _bars(axes, facts, goals[0][0])


def _percent(measure: Measure, value: float) -> float:
    return 100 * value if measure.is_share else value


def _label(measure: Measure) -> str:
    return f"{measure.key}, %" if measure.is_share else measure.key


def _history(axes: Any, facts: SweepFacts, name: str, way: str) -> None:
    measure = facts.measure(name)
    points = sorted(
        (one for one in facts.points if name in one.figures), key=lambda one: one.number
    )
    xs = [one.number for one in points]
    ys = [_percent(measure, one.figures[name].value) for one in points]
    for point, y in zip(points, ys, strict=True):
        figure = point.figures[name]
        bounds = [_percent(measure, figure.low), _percent(measure, figure.high)]
        colour = _DEFAULT if point.is_default else (_BEST if point is facts.points[0] else _REST)
        axes.plot([point.number] * 2, bounds, color=colour, lw=1, alpha=0.45)
        axes.plot([point.number], [y], "o", color=colour, ms=5)
    so_far = [ys[0]]
    for y in ys[1:]:
        so_far.append(max(so_far[-1], y) if way == MAXIMIZE else min(so_far[-1], y))
    axes.step(xs, so_far, where="post", color="C2", lw=1.5, label="best so far")
    left = [
        (number, _percent(measure, one.phase_ends[-1]))
        for number, one in enumerate(facts.record.runs)
        if one.state == "pruned" and one.phase_ends
    ]
    if left:
        axes.plot(
            *zip(*left, strict=True), "o", mfc="none", color="0.6", label="left at a phase end"
        )
    axes.set_title("history, with 95 % intervals of the rows")
    axes.set_xlabel("trial (0: default)")
    axes.set_ylabel(_label(measure)).set_parse_math(False)
    axes.grid(axis="y", color="0.9")
    axes.legend(fontsize=8)


def _front(axes: Any, facts: SweepFacts) -> None:
    """The first two objectives against each other."""
    one, other = (facts.measure(name) for name in list(facts.objectives)[:2])
    for place, point in enumerate(facts.points):
        if one.key in point.figures and other.key in point.figures:
            x = _percent(one, point.figures[one.key].value)
            y = _percent(other, point.figures[other.key].value)
            axes.plot([x], [y], "o", color=_colour(facts, place)[0], ms=6)
    axes.set_title("two objectives; orange: beaten by none in all")
    axes.set_xlabel(_label(one)).set_parse_math(False)
    axes.set_ylabel(_label(other)).set_parse_math(False)
    axes.grid(color="0.9")


def _bars(axes: Any, facts: SweepFacts, name: str) -> None:
    measure = facts.measure(name)
    points = [one for one in facts.points if name in one.figures][:20]
    for row, point in enumerate(points):
        figure = point.figures[name]
        bounds = [_percent(measure, figure.low), _percent(measure, figure.high)]
        axes.plot(bounds, [row, row], color="0.6", lw=2)
        axes.plot([_percent(measure, figure.value)], [row], "o", color=_BEST if not row else _REST)
    name_ticks(axes.yaxis, [one.name for one in points])
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.grid(axis="x", color="0.9")
    axes.set_xlabel(_label(measure)).set_parse_math(False)
    axes.set_title("the best, with 95 % intervals")


def _effects(axes: Any, facts: SweepFacts) -> None:
    """What goes with every axis: rank correlations, or the gap between its best and worst value."""
    measures = shown_measures(facts)
    columns: list[tuple[str, list[float]]] = []
    for axis in by_rank(facts):
        found = [ranks(facts, axis, one) for one in measures]
        line = [float("nan") if one is None else one.value for one in found]
        columns.append((axis.title, line))
    ranked = {title for title, _ in columns}
    for axis in facts.axes:
        by_value = means(facts, axis)
        if by_value is None or axis.title in ranked:
            continue
        for column, text in enumerate(by_value.values):
            line = [
                one[column] - _middle(one) if measure.is_share else float("nan")
                for measure, one in by_value.lines
            ]
            columns.append((f"{axis.title}={text}", line))
    if not columns:
        axes.set_axis_off()
        axes.set_title("effects: too few runs")
        return
    signs = [one.better or 1 for one in measures]
    grid = [[sign * line[row] for _, line in columns] for row, sign in enumerate(signs)]
    axes.imshow(grid, aspect="auto", cmap="RdBu", vmin=-1, vmax=1)
    for row in range(len(measures)):
        for column, (title, line) in enumerate(columns):
            value = line[row]
            if value == value:
                text = f"{value:+.2f}" if title in ranked else f"{100 * value:+.1f}"
                ink = "w" if abs(value) > _DARK else "k"
                axes.text(column, row, text, ha="center", va="center", fontsize=7, color=ink)
    name_ticks(axes.yaxis, [one.key for one in measures])
    name_ticks(axes.xaxis, [title for title, _ in columns], 30 if len(columns) > 3 else 0)
    axes.set_title("effects: rank correlation, or points off the mean")


def _middle(line: Sequence[float]) -> float:
    known = [one for one in line if one == one]
    return sum(known) / len(known) if known else float("nan")
