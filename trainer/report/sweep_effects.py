"""How the figures of a sweep's runs go with what was varied, and where values lie on an axis."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from scipy.stats import spearmanr

from trainer.config.measures import MAXIMIZE
from trainer.report.comparison import Measure
from trainer.report.comparison_table import value_text
from trainer.report.sweep import Point, SweepFacts
from trainer.sweep_record import AxisRecord

_FEWEST = 5  # points behind a rank correlation
_SURE = 0.05
_CHOICE = "choice"


@dataclass(frozen=True)
class Scale:
    """An axis of parallel coordinates.

    Attributes:
        ticks: place from 0 (below) to 1, and text.
        places: of every point; None where it has no value.
        is_goal: an objective: the better end is above.
    """

    title: str
    ticks: tuple[tuple[float, str], ...]
    places: tuple[float | None, ...]
    is_goal: bool = False


@dataclass(frozen=True)
class Means:
    """A measure by the values of an axis: mean over the points that have each, and how many they are."""

    axis: AxisRecord
    values: tuple[str, ...]
    counts: tuple[int, ...]
    lines: tuple[tuple[Measure, tuple[float, ...]], ...]


@dataclass(frozen=True)
class Rank:
    """Spearman's rank correlation of a value with a measure.

    Attributes:
        is_sure: so strong a one comes by chance in less than one of twenty cases, if the points were
            drawn at random; a search draws more where it is good.
    """

    value: float
    is_sure: bool


def scales(facts: SweepFacts) -> list[Scale]:
    """Axes for what was varied, then for the objectives."""
    found = [_axis_scale(axis, facts.points) for axis in facts.axes]
    return found + [
        _goal_scale(facts, facts.measure(name), way) for name, way in facts.objectives.items()
    ]


def _axis_scale(axis: AxisRecord, points: Sequence[Point]) -> Scale:
    texts = [one.values.get(axis.key) for one in points]
    if axis.kind == _CHOICE:
        last = max(1, len(axis.choices) - 1)
        at = {text: number / last for number, text in enumerate(axis.choices)}
        ticks = tuple((at[text], text) for text in axis.choices)
        return Scale(axis.title, ticks, tuple(at.get(text or "") for text in texts))
    turned = math.log10 if axis.log else float
    low, high = turned(axis.low), turned(axis.high)
    places = tuple(
        None if text is None else (turned(float(text)) - low) / (high - low) for text in texts
    )
    middle = 10 ** ((low + high) / 2) if axis.log else (low + high) / 2
    ticks = ((0.0, f"{axis.low:.3g}"), (0.5, f"{middle:.3g}"), (1.0, f"{axis.high:.3g}"))
    return Scale(axis.title, ticks, places)


def _goal_scale(facts: SweepFacts, measure: Measure, way: str) -> Scale:
    figures = [one.figures.get(measure.key) for one in facts.points]
    known = [one.value for one in figures if one is not None]
    low, high = min(known), max(known)
    worst, best = (low, high) if way == MAXIMIZE else (high, low)

    def text(value: float) -> str:
        return f"{100 * value:.1f} %" if measure.is_share else f"{value:.3f}"

    if low == high:
        places = tuple(None if one is None else 0.5 for one in figures)
        return Scale(measure.key, ((0.5, text(low)),), places, is_goal=True)
    return Scale(
        measure.key,
        ((0.0, text(worst)), (0.5, text((worst + best) / 2)), (1.0, text(best))),
        tuple(None if one is None else (one.value - worst) / (best - worst) for one in figures),
        is_goal=True,
    )


def shown_measures(facts: SweepFacts) -> list[Measure]:
    """What effects are shown on: objectives and main figures, then tasks."""
    main = [name for name in facts.objectives if not name.startswith("task/")]
    main += [one.key for one in facts.measures if one.key.startswith("crosstalk/")]
    main += ["worst", "in_format_processed", "general_after"]
    tasks = [one.key for one in facts.measures if one.key.startswith("task/")]
    have = {key for point in facts.points for key in point.figures}
    return [facts.measure(key) for key in dict.fromkeys([*main, *tasks]) if key in have]


def means(facts: SweepFacts, axis: AxisRecord) -> Means | None:
    """Means by value, for an axis with choices; None where fewer than two values have a run."""
    if axis.kind != _CHOICE:
        return None
    groups = {
        text: [one for one in facts.points if one.values.get(axis.key) == text]
        for text in axis.choices
    }
    groups = {text: group for text, group in groups.items() if group}
    if len(groups) < 2:
        return None
    lines = []
    for measure in shown_measures(facts):
        line = []
        for group in groups.values():
            found = [one.figures[measure.key].value for one in group if measure.key in one.figures]
            line.append(fmean(found) if found else math.nan)
        lines.append((measure, tuple(line)))
    counts = tuple(len(group) for group in groups.values())
    return Means(axis, tuple(groups), counts, tuple(lines))


def numbers(axis: AxisRecord, points: Sequence[Point]) -> list[float] | None:
    """The values of an axis as numbers; None where they are none."""
    try:
        return [float(one.values[axis.key]) for one in points]
    except (KeyError, ValueError):
        return None


def ranks(facts: SweepFacts, axis: AxisRecord, measure: Measure) -> Rank | None:
    """Rank correlation of an axis with a measure; None where it has no numbers or too few points."""
    points = [one for one in facts.points if axis.key in one.values and measure.key in one.figures]
    found = numbers(axis, points)
    if found is None or len(points) < _FEWEST or len(set(found)) < 3:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of figures that are all the same
        result = spearmanr(found, [one.figures[measure.key].value for one in points])
    if not math.isfinite(result.statistic):
        return None
    return Rank(float(result.statistic), bool(result.pvalue < _SURE))


def by_rank(facts: SweepFacts) -> list[AxisRecord]:
    """Axes whose values are numbers, and at least three of them."""
    return [
        axis
        for axis in facts.axes
        if any(ranks(facts, axis, measure) for measure in shown_measures(facts))
    ]


def text_of(point: Point, measure: Measure) -> str:
    """A measure of a point with its interval."""
    figure = point.figures.get(measure.key)
    return "–" if figure is None else value_text(figure, measure)
