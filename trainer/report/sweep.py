"""A sweep in figures: what its runs gave, and how that goes with what was varied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_modules.faults import DataFault
from trainer.config.measures import MAXIMIZE
from trainer.evaluation.results import Figure
from trainer.report.combining import difference_over_seeds, over_seeds
from trainer.report.comparison import Measure, measures_of
from trainer.report.objectives import figure_of
from trainer.report.summarise import RunSummary, summarise
from trainer.run_directory import RunDirectory
from trainer.run_facts import read_run
from trainer.sweep_record import AxisRecord, RunRecord, SweepRecord, read_sweep

_SEED = "seed"


@dataclass(frozen=True)
class Point:
    """Finished runs that differ in nothing but their seed.

    Attributes:
        number: of its first run in the sweep.
        values: key of an axis -> value, as a command line has it.
        figures: measure -> mean over the runs.
    """

    name: str
    number: int
    values: dict[str, str]
    runs: tuple[RunSummary, ...]
    figures: dict[str, Figure]
    is_default: bool

    def each(self, measure: str) -> list[Figure]:
        """The measure of every run; none where a run lacks it."""
        found = [figure_of(run, measure) for run in self.runs]
        return [one for one in found if one is not None] if None not in found else []


@dataclass(frozen=True)
class SweepFacts:
    """What a report says of a sweep.

    Attributes:
        axes: what was varied, the seed apart.
        points: the best first: by the first objective; of several, those that none beats come first.
        front: of several objectives, the points that no other beats in all.
        measures: what any run was measured by, tasks' scores behind the rest.
        unfinished: run -> why it has no figures.
        damaged: those of them that came to their end, but have lost what tells of it.
    """

    folder: Path
    record: SweepRecord
    axes: tuple[AxisRecord, ...]
    points: tuple[Point, ...]
    front: tuple[Point, ...]
    measures: tuple[Measure, ...]
    unfinished: dict[str, str]
    damaged: tuple[str, ...]

    @property
    def objectives(self) -> dict[str, str]:
        """Those that runs were measured by -> ``maximize`` or ``minimize``."""
        return {
            name: way
            for name, way in self.record.objectives.items()
            if any(name in one.figures for one in self.points)
        }

    @property
    def default(self) -> Point | None:
        """The configuration that a search began with."""
        return next((one for one in self.points if one.is_default), None)

    def measure(self, key: str) -> Measure:
        """A measure by its name."""
        known = {one.key: one for one in self.measures}
        return known.get(key) or Measure(key, "evaluation loss, nats", -1, False)

    def difference(self, one: Point, other: Point, measure: str) -> Figure | None:
        """``one`` less ``other``; None where either lacks the measure."""
        ones, others = one.each(measure), other.each(measure)
        return difference_over_seeds(ones, others) if ones and others else None


def read_sweep_facts(folder: Path) -> SweepFacts:
    """Read a sweep and its finished runs.

    Raises:
        DataFault: the folder is no sweep's.
    """
    record = read_sweep(folder)
    summaries: dict[str, RunSummary] = {}
    unfinished: dict[str, str] = {}
    damaged: list[str] = []
    for one in record.runs:
        why = _why_unfinished(folder, one)
        if not why:
            facts = None
            try:
                facts = read_run(folder / one.folder)
                summaries[one.folder] = summarise(facts)
            except DataFault as fault:
                why = str(fault.faults[0])
                if facts is None:  # else it is whole, but was not evaluated
                    damaged.append(one.name)
        if why:
            unfinished[one.name] = why
    bundles: dict[object, list[tuple[int, RunRecord]]] = {}
    for number, one in enumerate(record.runs):
        if one.folder in summaries:
            bundles.setdefault(_apart_from_seed(one), []).append((number, one))
    runs = list(summaries.values())
    measures = measures_of(runs) if runs else ()
    points = [_point(bundle, summaries, measures, record) for bundle in bundles.values()]
    front = _front(points, record.objectives) if len(record.objectives) > 1 else ()
    return SweepFacts(
        folder,
        record,
        tuple(axis for axis in record.axes if axis.key != _SEED),
        tuple(_ranked(points, front, record.objectives)),
        tuple(front),
        tuple(one for one in measures if any(one.key in point.figures for point in points)),
        unfinished,
        tuple(damaged),
    )


def _why_unfinished(folder: Path, one: RunRecord) -> str:
    """Why a run has no figures to compare; "" if it has."""
    if one.state == "pruned":
        value = f" at {one.phase_ends[-1]:.4f}" if one.phase_ends else ""
        return f"left at a phase end{value}"
    if one.state == "failed":
        return "failed"
    if not RunDirectory(folder / one.folder).report.is_file() or one.state == "running":
        return "not finished" if (folder / one.folder).is_dir() else "not begun"
    return ""


def _apart_from_seed(one: RunRecord) -> object:
    if one.state:  # trials are what they are
        return one.folder
    return tuple(sorted((key, text) for key, text in one.values.items() if key != _SEED))


def _point(
    bundle: Sequence[tuple[int, RunRecord]],
    summaries: Mapping[str, RunSummary],
    measures: Sequence[Measure],
    record: SweepRecord,
) -> Point:
    number, first = bundle[0]
    runs = tuple(summaries[one.folder] for _, one in bundle)
    keys = list(dict.fromkeys([*(one.key for one in measures), *record.objectives]))
    figures = {}
    for key in keys:
        found = [figure_of(run, key) for run in runs]
        if None not in found:
            figures[key] = over_seeds([one for one in found if one is not None])
    values = {key: text for key, text in first.values.items() if key != _SEED}
    name = runs[0].stem if len(runs) > 1 else first.name
    return Point(name, number, values, runs, figures, first.is_default)


def gain(point: Point, objective: str, way: str) -> float:
    """An objective, turned so that more is better; the least there is where it was not measured."""
    figure = point.figures.get(objective)
    if figure is None:
        return float("-inf")
    return figure.value if way == MAXIMIZE else -figure.value


def _front(points: Sequence[Point], objectives: Mapping[str, str]) -> list[Point]:
    """The points that no other is as good as in every objective, and better in one."""
    gains = [[gain(one, name, way) for name, way in objectives.items()] for one in points]

    def is_beaten(own: Sequence[float]) -> bool:
        return any(
            all(a >= b for a, b in zip(other, own, strict=True)) and other != own for other in gains
        )

    return [one for one, own in zip(points, gains, strict=True) if not is_beaten(own)]


def _ranked(
    points: Sequence[Point], front: Sequence[Point], objectives: Mapping[str, str]
) -> list[Point]:
    first, way = next(iter(objectives.items()))
    ahead = {one.name for one in front}
    return sorted(
        points, key=lambda one: (one.name not in ahead, -gain(one, first, way), one.number)
    )


def write_sweep_report(facts: SweepFacts) -> Path | None:
    """Write ``sweep.html`` and ``sweep.png``.

    Returns:
        The page; None while no run is finished.
    """
    from trainer.report.sweep_page import write_sweep_page
    from trainer.report.sweep_picture import draw_sweep

    if not facts.points:
        return None
    draw_sweep(facts, facts.folder / "sweep.png")
    return write_sweep_page(facts)
