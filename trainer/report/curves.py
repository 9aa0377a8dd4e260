"""Lines of a run's figures over its steps, thinned to what a screen can show."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_modules.report.drawing import Axis
from trainer.run_facts import RunFacts

_TOP = 4.0  # per cent of the height that stay free above the highest value
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Curve:
    """A line or single dots; ``points`` is the SVG attribute, in per cent of a drawing."""

    kind: str
    points: str
    dots: tuple[Point, ...] = ()


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing with its labels.

    Attributes:
        title: what it shows, for those who do not see it.
        ticks: places of values on the vertical axis, from the top, and their texts.
        switches: places where phases begin, behind the first.
    """

    title: str
    curves: tuple[Curve, ...]
    ticks: tuple[tuple[float, str], ...]
    switches: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """The horizontal axis that all drawings of a run share."""

    axis: Axis
    switches: tuple[float, ...]
    names: tuple[tuple[float, str], ...]

    def at(self, step: float) -> float:
        return round(self.axis.at(step), 2)


def frame_of(facts: RunFacts) -> Frame:
    """Steps from 0 to the last, with the phases' beginnings."""
    steps = facts.steps
    axis = Axis(0.0, float(steps[-1]["step"]) if steps else 1.0, is_log=False)
    begins: dict[str, int] = {}
    for entry in steps:
        begins.setdefault(str(entry["phase"]), int(entry["step"]) - 1)
    places = {name: round(axis.at(step), 2) for name, step in begins.items()}
    return Frame(axis, tuple(list(places.values())[1:]), tuple((at, n) for n, at in places.items()))


def binned(
    entries: Iterable[Mapping[str, Any]], value: str, weight: str | None, bins: int, last: float
) -> list[Point]:
    """(mean step, weighted mean value) of each of ``bins`` equal stretches of steps that has any."""
    sums: dict[int, list[float]] = {}
    for entry in entries:
        if value not in entry or not math.isfinite(entry[value]):
            continue
        step = float(entry["step"])
        heavy = float(entry[weight]) if weight is not None else 1.0
        one = sums.setdefault(min(bins - 1, int(bins * (step - 1) / max(1.0, last))), [0.0] * 4)
        one[0] += step
        one[1] += 1
        one[2] += heavy * float(entry[value])
        one[3] += heavy
    return [(one[0] / one[1], one[2] / one[3]) for _, one in sorted(sums.items()) if one[3]]


def smoothed(points: Sequence[Point], keep: float) -> list[Point]:
    """Exponential moving average without the start-up bias."""
    result: list[Point] = []
    total = weight = 0.0
    for step, value in points:
        total = keep * total + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        result.append((step, total / weight))
    return result


def line(points: Iterable[Point], frame: Frame, high: float) -> str:
    """An SVG ``points`` attribute; values above ``high`` lie on the upper edge."""
    return " ".join(f"{frame.at(step):g},{height(value, high):g}" for step, value in points)


def dots(points: Iterable[Point], frame: Frame, high: float) -> tuple[Point, ...]:
    """Places of single points."""
    return tuple((frame.at(step), height(value, high)) for step, value in points)


def height(value: float, high: float) -> float:
    """Place of a value on a vertical axis from 0 to ``high``, from the top, in per cent."""
    part = min(1.0, max(0.0, value / (high or 1.0)))
    return round(100 - (100 - _TOP) * part, 2)


def ticks(high: float, form: str) -> tuple[tuple[float, str], ...]:
    """Two or three round values between 0 and ``high``."""
    if high <= 0:
        return ()
    rough = high / 2.5
    base = 10.0 ** math.floor(math.log10(rough))
    step = max(base * one for one in (1, 2, 5) if base * one <= rough * 1.0001)
    values = [step * number for number in range(int(high / step) + 1)]
    return tuple((height(value, high), format(value, form)) for value in values[-3:] if value)
