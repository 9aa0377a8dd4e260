"""What is trained for a sweep: runs and stems with their places, and whether they are done."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from data_modules.faults import DataFault, Fault
from launch.sweeps.composed import Composed, compose_all, quoted
from launch.sweeps.members import Member
from launch.sweeps.stems import Stem, Tree, digest, shared
from trainer.config.schema import Config
from trainer.resume import made_by, made_config
from trainer.run_directory import RunDirectory
from trainer.sweep_record import RunRecord

RUNS, STEMS = "runs", "stems"


@dataclass(frozen=True)
class Node:
    """One thing to train.

    Attributes:
        folder: its run directory below the sweep's.
        values: of the axes; a stem has none.
        overrides: all that ``launch/train.py`` gets.
        config: what they compose.
        parent: folder of the stem that it goes on from.
        phases: of a stem.
    """

    root: Path
    folder: str
    values: dict[str, str]
    overrides: tuple[str, ...]
    config: Config
    parent: str | None = None
    phases: tuple[str, ...] = ()

    @property
    def run(self) -> Path:
        """Its run directory."""
        return self.root / self.folder

    @property
    def name(self) -> str:
        return Path(self.folder).name

    @property
    def is_finished(self) -> bool:
        """Whether it has come to its end, by the same configuration: the report is written last.

        Raises:
            DataFault: its configuration cannot be read, so that nobody knows.
        """
        run = RunDirectory(self.run)
        if not run.report.is_file():
            return False
        if made_config(run) is None:
            seen = "damaged, or gone"
            rule = "it tells what the finished run beside it was made by"
            remedy = f"Remove {self.run}: the same command then trains that run again."
            raise DataFault(Fault(str(run.root / "config.yaml"), seen, rule, remedy))
        return made_by(self.config, run)

    def record(self) -> RunRecord:
        """What ``sweep.json`` says of it."""
        return RunRecord(
            self.name,
            self.folder,
            dict(self.values),
            list(self.overrides),
            digest(self.config),
            self.parent,
            list(self.phases),
        )


@dataclass(frozen=True)
class Places:
    """Where a sweep's runs lie, and what they all get.

    Attributes:
        resume: run directory or checkpoint that every run begins from; None begins anew.
        more: further overrides of all.
    """

    root: Path
    resume: str | None
    more: tuple[str, ...] = ()

    def overrides(self, folder: str, parent: str | None) -> list[str]:
        """What gives a run its place, and tells it what to go on from."""
        start = self.resume if parent is None else str(self.root / parent)
        return [
            f"run_name={quoted(Path(folder).name)}",
            f"output_dir={quoted(str(self.root / folder))}",
            f"sweep.directory={quoted(str(self.root))}",
            *([] if start is None else [f"resume={quoted(start)}"]),
            *self.more,
        ]


def without_phases(overrides: Iterable[str]) -> list[str]:
    """Overrides but for those that select phases."""
    return [one for one in overrides if not one.startswith(("+phase=", "++phase="))]


def common(overrides: Iterable[str]) -> list[str]:
    """Overrides but for the name and the sweep's own settings, which runs get from it."""
    return [
        one
        for one in overrides
        if not one.lstrip("+").startswith(("run_name=", "sweep=", "sweep."))
    ]


def selecting(phases: Sequence[str]) -> str:
    """The override that trains these phases."""
    return f"+phase=[{','.join(phases)}]"


def plan(
    members: Sequence[Member], places: Places, share: bool
) -> tuple[list[Node], dict[str, Composed]]:
    """Stems, parents before children, and behind them the runs; all composed and checked.

    Raises:
        ConfigFault: faults of any of them.
    """
    own = {one.name: common(one.overrides) for one in members}
    composed = compose_all(
        (name, [*overrides, *places.overrides(f"{RUNS}/{name}", None)])
        for name, overrides in own.items()
    )
    configs = {name: one.config for name, one in composed.items()}
    tree = shared(configs) if share else Tree((), dict.fromkeys(configs))
    nodes = stem_nodes(tree.stems, own, places)
    for one in members:
        stem = tree.stem_of[one.name]
        parent = None if stem is None else f"{STEMS}/{stem}"
        folder = f"{RUNS}/{one.name}"
        overrides = (*own[one.name], *places.overrides(folder, parent))
        nodes.append(Node(places.root, folder, one.values, overrides, configs[one.name], parent))
    return nodes, composed


def stem_nodes(
    stems: Sequence[Stem], own: Mapping[str, Sequence[str]], places: Places
) -> list[Node]:
    """What trains the stems.

    Args:
        own: run -> its overrides, without a place.
    """
    parts = {stem.name: [*without_phases(own[stem.like]), selecting(stem.phases)] for stem in stems}
    # composed without what they go on from: it is not there yet
    composed = compose_all(
        (name, [*overrides, *places.overrides(f"{STEMS}/{name}", None)])
        for name, overrides in parts.items()
    )
    nodes = []
    for stem in stems:
        parent = None if stem.parent is None else f"{STEMS}/{stem.parent}"
        folder = f"{STEMS}/{stem.name}"
        overrides = (*parts[stem.name], *places.overrides(folder, parent))
        config = composed[stem.name].config
        nodes.append(Node(places.root, folder, {}, overrides, config, parent, stem.phases))
    return nodes
