"""Tables whose cells are coloured by their figures: readable without the colour, and by any reader."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from trainer.evaluation.results import Figure

#: Strengths of a colour in the style sheet: classes ``c0`` ... ``c9``, and ``h`` and ``g`` alike.
LEVELS = 10
#: From so many columns on, a table shows whole per cents in narrow cells.
_MANY = 14
NOTHING = "–"


@dataclass(frozen=True, slots=True)
class Cell:
    """Text of a cell, its class in the style sheet, and the longer text on hovering."""

    text: str
    kind: str = ""
    title: str = ""


@dataclass(frozen=True, slots=True)
class Whisker:
    """A figure with its interval on an axis from 0 to 1: places in per cent of the width."""

    low: float
    width: float
    at: float
    target: float | None
    text: str


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a table; ``mark`` says what else the name stands for ("general")."""

    name: str
    cells: list[Cell]
    mark: str = ""
    whisker: Whisker | None = None


@dataclass(frozen=True, slots=True)
class HeatTable:
    """A table of coloured cells.

    Attributes:
        corner: heading of the names.
        foot: lines over all the others.
        compact: narrow cells; for tables with many columns.
        last: heading of the whiskers' column; "" without one.
    """

    corner: str
    columns: list[str]
    rows: list[Row]
    foot: list[Row]
    compact: bool = False
    last: str = ""


def heat_table(
    corner: str,
    columns: Sequence[str],
    rows: Sequence[Row],
    foot: Sequence[Row] = (),
    last: str = "",
) -> HeatTable:
    """A table; narrow where it has many columns."""
    return HeatTable(corner, list(columns), list(rows), list(foot), len(columns) >= _MANY, last)


def cool(value: float, low: float = 0.0, high: float = 1.0) -> str:
    """Class of a value that is good when high."""
    return f"c{_level(value, low, high)}"


def hot(value: float, high: float = 1.0) -> str:
    """Class of a value that is bad when high; the root shows small values beside large ones."""
    return f"h{_level(math.sqrt(max(0.0, value) / (high or 1.0)), 0.0, 1.0)}" if value > 0 else ""


def either(value: float, most: float) -> str:
    """Class of a signed value: cool above 0, hot below; ``most`` has the full colour."""
    if not value or not most:
        return ""
    return f"{'c' if value > 0 else 'h'}{_level(abs(value), 0.0, most)}"


def _level(value: float, low: float, high: float) -> int:
    part = (value - low) / ((high - low) or 1.0)
    return min(LEVELS - 1, max(0, int(part * LEVELS)))


def score_cell(figure: Figure | None) -> Cell:
    """A score with the colour of its value and its interval on hovering."""
    if figure is None:
        return Cell(NOTHING, "zero")
    return Cell(percent(figure.value), cool(figure.value), between(figure))


def rate_cell(figure: Figure | None, high: float) -> Cell:
    """A rate that is better low."""
    if figure is None:
        return Cell(NOTHING, "zero")
    return Cell(percent(figure.value), hot(figure.value, high), between(figure))


def matrix(
    corner: str,
    names: Sequence[str],
    columns: Sequence[str],
    values: Sequence[Sequence[float]],
    kind: Callable[[str, str, float], str],
    text: Callable[[float, bool], str],
    marks: Mapping[str, str],
) -> HeatTable:
    """A table name x column of plain values.

    Args:
        kind: (name, column, value) -> class.
        text: (value, is narrow) -> what the cell shows.
    """
    narrow = len(columns) >= _MANY
    rows = [
        Row(
            name,
            [
                Cell(text(value, narrow), kind(name, column, value))
                for column, value in zip(columns, line, strict=True)
            ],
            marks.get(name, ""),
        )
        for name, line in zip(names, values, strict=True)
    ]
    return heat_table(corner, columns, rows)


def whisker(figure: Figure, target: float | None = None) -> Whisker:
    """A figure in [0, 1] with its interval, and the value that it should reach."""
    low, high = (100 * min(1.0, max(0.0, one)) for one in (figure.low, figure.high))
    return Whisker(
        round(low, 2),
        round(high - low, 2),
        round(100 * min(1.0, max(0.0, figure.value)), 2),
        None if target is None else round(100 * target, 2),
        between(figure),
    )


def percent(value: float) -> str:
    """A share in per cent without the sign: 61.2."""
    return f"{100 * value:.1f}"


def share_text(value: float, narrow: bool) -> str:
    """A share for a matrix: nothing is a dot, and what is not nothing never shows as 0."""
    if value <= 0:
        return "·"
    if narrow:
        return "<1" if value < 0.005 else f"{100 * value:.0f}"
    return "<0.1" if value < 0.0005 else percent(value)


def between(figure: Figure) -> str:
    """The interval: 58.0–64.3."""
    return f"{percent(figure.low)}–{percent(figure.high)}"


def with_interval(figure: Figure | None) -> str:
    """A figure and its interval: 61.2 (58.0–64.3)."""
    return NOTHING if figure is None else f"{percent(figure.value)} ({between(figure)})"


def signed(value: float) -> str:
    """A difference of shares in points: +3.1, −0.4, 0.0."""
    points = round(100 * value, 1)
    return f"{points:+.1f}".replace("-", "−") if points else "0.0"
