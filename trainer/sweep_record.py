"""``sweep.json``: what a sweep consists of, as the commands that run it and report on it share it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from data_modules.faults import DataFault, Fault
from trainer.run_directory import read_json, write_json

FILE = "sweep.json"


@dataclass(frozen=True)
class AxisRecord:
    """One setting that is varied.

    Attributes:
        title: the end of the key that tells it apart.
        kind: ``choice``, ``integer`` or ``number``.
        choices: of a choice; else empty, and the values lie from ``low`` to ``high``.
        log: on a logarithmic scale.
    """

    key: str
    title: str
    kind: str
    choices: list[str]
    low: float = 0.0
    high: float = 0.0
    log: bool = False


@dataclass
class RunRecord:
    """One run, or a stem: the first phases of several.

    Attributes:
        folder: its run directory below the sweep's.
        values: key of an axis -> value, as a command line has it; a default's own where it is known.
        overrides: all that ``launch/train.py`` gets.
        made_by: digest of the configuration.
        parent: folder of the stem that it goes on from.
        phases: of a stem.
        job: of SLURM: id, with the task's number in an array.
        state: of a trial: ``running``, ``complete``, ``pruned`` or ``failed``; a grid's runs have none.
        objectives: of a trial that is complete, in the order of the sweep's.
        phase_ends: the objective at every phase end so far, where trials may be pruned.
        is_default: it has the settings that the search began with.
    """

    name: str
    folder: str
    values: dict[str, str]
    overrides: list[str]
    made_by: str
    parent: str | None = None
    phases: list[str] = field(default_factory=list)
    job: str | None = None
    state: str = ""
    objectives: list[float] = field(default_factory=list)
    phase_ends: list[float] = field(default_factory=list)
    is_default: bool = False


@dataclass
class SweepRecord:
    """A sweep.

    Attributes:
        kind: ``grid`` or ``search``.
        asked: its overrides, as they were given.
        settings: what shapes a search; it may not change while the search goes on.
        objectives: measure -> ``maximize`` or ``minimize``; of a grid, what its report ranks by.
    """

    name: str
    kind: str
    asked: list[str]
    settings: dict[str, Any]
    axes: list[AxisRecord]
    objectives: dict[str, str]
    stems: list[RunRecord] = field(default_factory=list)
    runs: list[RunRecord] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Write ``sweep.json``."""
        write_json(folder / FILE, asdict(self))

    def find(self, folder: str) -> RunRecord | None:
        """The run or stem of a folder."""
        return next((one for one in (*self.stems, *self.runs) if one.folder == folder), None)


def read_sweep(folder: Path) -> SweepRecord:
    """Read ``sweep.json``.

    Raises:
        DataFault: there is none, or it is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        rule = "the folder of a sweep is what launch/submit.py -m writes"
        raise DataFault(Fault(str(folder), f"no {FILE}", rule, "Name sweep.directory."))
    try:
        found = read_json(path)
        return SweepRecord(
            **{
                **found,
                "axes": [AxisRecord(**one) for one in found["axes"]],
                "stems": [RunRecord(**one) for one in found["stems"]],
                "runs": [RunRecord(**one) for one in found["runs"]],
            }
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        rule = "it is written by launch/submit.py -m alone"
        remedy = "Remove it, and start the same sweep again: finished runs are kept."
        raise DataFault(Fault(str(path), f"damaged ({error})", rule, remedy)) from error
