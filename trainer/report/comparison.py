"""Runs side by side: seeds of one experiment together, differences to the first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from data_modules.faults import ConfigFault, Fault
from trainer.evaluation.results import Figure
from trainer.report.combining import difference_over_seeds, over_seeds
from trainer.report.summarise import RunSummary

#: How a measure is read from a run; None where the run does not have it.
_Reader = Callable[[RunSummary], Figure | None]


@dataclass(frozen=True)
class Measure:
    """One line of a comparison.

    Attributes:
        key: ``mean``, ``crosstalk/<prompt set>``, ``task/<task>``, ...
        better: 1 where more is better, -1 where less is, 0 where neither.
        is_share: shown in per cent; else as a number.
    """

    key: str
    title: str
    better: int
    is_share: bool = True


@dataclass(frozen=True)
class Group:
    """The runs of one experiment.

    Attributes:
        by: how they were found to belong together.
        figures: measure -> mean over the runs; see :func:`trainer.report.combining.over_seeds`.
        differences: measure -> this group less the first; empty for the first.
        missing: measures that not every run of the group has; they have no figure.
    """

    name: str
    by: str
    runs: tuple[RunSummary, ...]
    figures: dict[str, Figure]
    differences: dict[str, Figure]
    missing: tuple[str, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(run.seed for run in self.runs)


@dataclass(frozen=True)
class Comparison:
    """Groups in the order of their first runs.

    Attributes:
        measures: those that any group has a figure for.
        rare_tasks: the first run's; the same for all.
    """

    groups: tuple[Group, ...]
    measures: tuple[Measure, ...]
    rare_tasks: tuple[str, ...]


def compare(runs: Sequence[RunSummary], names: Sequence[str] | None = None) -> Comparison:
    """Put runs side by side.

    Runs belong together if their names are the same up to a trailing ``-seedN``, or their
    configurations up to seed, name and folder.

    Args:
        names: what the groups are called, in their order; None takes the runs' names.

    Raises:
        ConfigFault: there are not as many names as groups.
    """
    assert runs, "nothing to compare"
    rare = runs[0].rare_tasks
    bundles = _bundles(runs)
    if names is not None and len(names) != len(bundles):
        found = ", ".join(bundle[0].stem for bundle, _ in bundles)
        raise ConfigFault(
            Fault(
                "--names",
                f"{len(names)} names for {len(bundles)} groups of runs ({found})",
                "every group has one name; runs that differ in their seed are one group",
                "Give as many names as groups, separated by commas.",
            )
        )
    measures = _measures(runs, rare)
    readers = _readers(rare, measures)
    taken = [_complete(bundle, readers) for bundle, _ in bundles]
    shares = {one.key for one in measures if one.is_share}
    groups = []
    for number, (bundle, by) in enumerate(bundles):
        differences = {
            key: difference_over_seeds(figures, taken[0][key])
            for key, figures in taken[number].items()
            if number and key in taken[0]
        }
        groups.append(
            Group(
                names[number] if names is not None else bundle[0].stem,
                by,
                tuple(bundle),
                {
                    key: _bounded(over_seeds(figures), key in shares)
                    for key, figures in taken[number].items()
                },
                differences,
                tuple(key for key in readers if key not in taken[number]),
            )
        )
    return Comparison(
        tuple(groups),
        tuple(one for one in measures if any(one.key in group.figures for group in groups)),
        rare,
    )


def _complete(
    bundle: Sequence[RunSummary], readers: Mapping[str, _Reader]
) -> dict[str, list[Figure]]:
    """Measure -> its figure of every run, where all of them have one."""
    found = {key: [read(run) for run in bundle] for key, read in readers.items()}
    return {
        key: [one for one in figures if one is not None]
        for key, figures in found.items()
        if None not in figures
    }


def _bounded(figure: Figure, is_share: bool) -> Figure:
    """A share's interval holds nothing that a share cannot be."""
    if not is_share:
        return figure
    return replace(figure, low=max(0.0, figure.low), high=min(1.0, figure.high))


def _bundles(runs: Sequence[RunSummary]) -> list[tuple[list[RunSummary], str]]:
    bundles: list[tuple[list[RunSummary], str]] = []
    for run in runs:
        for number, (bundle, by) in enumerate(bundles):
            way = _kinship(bundle[0], run)
            if way and run.seed not in {one.seed for one in bundle}:
                bundle.append(run)
                bundles[number] = (bundle, by if by != _ALONE else way)
                break
        else:
            bundles.append(([run], _ALONE))
    return bundles


_ALONE = "one run"


def _kinship(one: RunSummary, other: RunSummary) -> str:
    """Why two runs are the same experiment; "" if they are not."""
    if one.stem == other.stem:
        return "run_name up to -seedN"
    return "configuration up to seed" if one.settings == other.settings else ""


def _measures(runs: Sequence[RunSummary], rare: tuple[str, ...]) -> tuple[Measure, ...]:
    sets = dict.fromkeys(name for run in runs for name in run.figures.crosstalk)
    tasks = sorted({task for run in runs for task in run.figures.scores})
    return (
        Measure("mean", "mean of tasks", 1),
        Measure("worst", "worst task", 1),
        Measure("best", "best task", 1),
        Measure("spread", "spread, best - worst", -1),
        *([Measure("rare", f"rare tasks ({len(rare)})", 1)] if rare else []),
        *(Measure(f"crosstalk/{name}", f"crosstalk, {name}", -1) for name in sets),
        Measure("in_format", "in format, raw", 1),
        Measure("in_format_processed", "in format, processed", 1),
        Measure("general_before", "general before", 0),
        Measure("general_after", "general after", 1),
        Measure("general_loss_before", "general loss before, nats", 0, False),
        Measure("general_loss_after", "general loss after, nats", -1, False),
        Measure("steps", "optimizer steps", 0, False),
        *(Measure(f"task/{task}", task, 1) for task in tasks),
    )


def _readers(rare: tuple[str, ...], measures: Sequence[Measure]) -> dict[str, _Reader]:
    """Measure -> how to read it from a run."""
    plain: dict[str, _Reader] = {
        "mean": lambda run: run.figures.mean,
        "worst": lambda run: run.figures.worst,
        "best": lambda run: run.figures.best,
        "spread": lambda run: run.figures.spread,
        "rare": lambda run: run.score_of(rare),
        "in_format": lambda run: run.figures.in_format,
        "in_format_processed": lambda run: run.figures.in_format_processed,
        "general_before": lambda run: run.before.general if run.before else None,
        "general_after": lambda run: run.figures.general,
        "general_loss_before": lambda run: _exact(run.before.general_loss if run.before else None),
        "general_loss_after": lambda run: _exact(run.figures.general_loss),
        "steps": lambda run: _exact(run.steps),
    }
    return {one.key: plain.get(one.key) or _named(one.key) for one in measures}


def reader_of(key: str, rare: tuple[str, ...]) -> _Reader:
    """How a measure is read from a run; ``loss`` too, which comparisons leave out.

    Args:
        rare: tasks that count as rare.
    """
    if key == "loss":
        return lambda run: _exact(run.figures.loss)
    return _readers(rare, (Measure(key, key, 0),))[key]


def measures_of(runs: Sequence[RunSummary]) -> tuple[Measure, ...]:
    """All that runs may have a figure for, in the order of a comparison."""
    return _measures(runs, runs[0].rare_tasks)


def _named(key: str) -> _Reader:
    kind, name = key.split("/", 1)
    if kind == "crosstalk":
        return lambda run: run.figures.crosstalk.get(name)
    return lambda run: run.figures.scores.get(name)


def _exact(value: float | None) -> Figure | None:
    """A value that rows leave no doubt about."""
    return None if value is None else Figure(value, value, value, 0)
