"""What a sweep varies: Hydra's sweep syntax, read by Hydra's own parser."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import (
    ChoiceSweep,
    Glob,
    IntervalSweep,
    Override,
    RangeSweep,
)
from hydra.errors import HydraException

from data_modules.faults import ConfigFault, Fault
from launch.composing import CONFIG_FOLDER, addable, refuse

#: Keys that a sweep sets itself for each of its runs, and what to set instead.
_OWN = {
    "output_dir": "runs of a sweep lie in sweep.directory",
    "resume": "a sweep goes on where it was; name another sweep.directory to begin anew",
    "hydra": "a sweep is started by launch/submit.py and not by Hydra's launchers",
}
#: Keys that all runs of a sweep have in common.
_COMMON = ("sweep", "cluster", "run_name", *_OWN)
_LOG = "log"


class Kind(Enum):
    """What the values of an axis are."""

    choice = "choice"
    integer = "integer"
    number = "number"


@dataclass(frozen=True)
class Axis:
    """One setting that a sweep varies.

    Attributes:
        override: the key as a command line has it, with ``+`` and package.
        choices: its values as a command line has them; empty where there is no end of them.
        low, high, step: of integers and numbers; a step of None leaves no gaps.
        log: draws are even on a logarithmic scale.
    """

    override: str
    kind: Kind
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 0.0
    step: float | None = None
    log: bool = False

    @property
    def key(self) -> str:
        """The key without what tells Hydra how to merge it."""
        return self.override.lstrip("+~")

    def ends(self) -> tuple[str, ...]:
        """Values to try the configuration with: all choices, or the lowest and the highest."""
        return self.choices or (self.text(self.low), self.text(self.high))

    def text(self, value: float | str) -> str:
        """A value as a command line has it."""
        if isinstance(value, str):
            return value
        return str(round(value)) if self.kind is Kind.integer else number_text(value)


@dataclass(frozen=True)
class Asked:
    """The command line of a sweep: what is fixed, and what is varied."""

    fixed: tuple[str, ...]
    axes: tuple[Axis, ...]
    phases: bool = False
    resume: str | None = None


def number_text(value: float) -> str:
    """A number without the dust of binary fractions."""
    return repr(float(f"{value:.12g}"))


def read(overrides: Sequence[str], search: bool) -> Asked:
    """Take a command line apart.

    Args:
        search: values are drawn, and may have no end.

    Raises:
        ConfigFault: Hydra cannot read it; a value is swept that all runs share; a grid has no end.
    """
    parser = OverridesParser.create()
    parsed: list[Override] = []
    for one in addable(list(overrides)):
        try:
            parsed.append(parser.parse_override(one))
        except HydraException as error:
            refuse(error)
    faults: list[Fault] = []
    fixed: list[str] = []
    axes: list[Axis] = []
    resume: str | None = None
    for override in parsed:
        key = override.key_or_group
        line = str(override.input_line).lstrip("+")
        top = key.split(".")[0]
        if override.is_sweep_override():
            if top in _COMMON:
                rule = _OWN.get(top, "all runs of a sweep have it in common")
                faults.append(Fault(line, "it is swept", rule))
            else:
                axes += _axis(override, line, search, faults)
        elif key == "resume" and str(override.value()) not in ("never", "auto"):
            resume = str(override.value())
        elif top in _OWN and str(override.value()) != "auto":
            faults.append(Fault(line, f"{top} is set for a sweep", _OWN[top]))
        elif top not in _OWN:
            fixed.append(f"{override.get_key_element()}={override.get_value_element_as_str()}")
    twice = [key for key, group in _grouped([axis.key for axis in axes]) if group > 1]
    faults += [Fault(key, "swept twice", "a setting has one list of values") for key in twice]
    if faults:
        raise ConfigFault(faults)
    selects = any(one.key_or_group == "phase" and one.package is None for one in parsed)
    return Asked(tuple(fixed), tuple(axes), selects, resume)


def _grouped(keys: Sequence[str]) -> list[tuple[str, int]]:
    return [(key, len(list(group))) for key, group in itertools.groupby(sorted(keys))]


def _axis(override: Override, line: str, search: bool, faults: list[Fault]) -> Iterator[Axis]:
    """The axis of an override; none where it has a fault."""
    value, key = override.value(), override.get_key_element()
    tags = set(getattr(value, "tags", ())) - {_LOG}
    if tags:
        faults.append(Fault(line, f"tagged {', '.join(sorted(tags))}", f"the one tag is {_LOG}"))
    elif getattr(value, "shuffle", False):
        rule = "runs have a fixed order, so that an interrupted sweep can go on"
        faults.append(Fault(line, "shuffled", rule, "Leave shuffle() out."))
    elif isinstance(value, IntervalSweep):
        yield from _interval(value, key, line, search, faults)
    elif isinstance(value, RangeSweep):
        yield from _range(value, key, line, search, faults)
    elif isinstance(value, Glob):
        names = value.filter(_options(override.key_or_group))
        if names:
            yield Axis(key, Kind.choice, tuple(names))
        else:
            faults.append(Fault(line, "no file fits", "glob() picks files of a group in conf/"))
    else:
        assert isinstance(value, ChoiceSweep)
        if _LOG in value.tags:
            rule = "only interval() and range() have a scale"
            faults.append(Fault(line, "tagged log", rule))
        else:
            yield Axis(key, Kind.choice, tuple(dict.fromkeys(override.sweep_string_iterator())))


def _options(group: str) -> list[str]:
    folder: Path = CONFIG_FOLDER / group
    return sorted(path.stem for path in folder.glob("*.yaml"))


def _interval(
    value: IntervalSweep, key: str, line: str, search: bool, faults: list[Fault]
) -> Iterator[Axis]:
    low, high, log = value.start, value.end, _LOG in value.tags
    if low is None or high is None or low >= high:
        faults.append(Fault(line, f"{low} to {high}", "an interval goes from low to high"))
    elif log and low <= 0:
        faults.append(Fault(line, f"it begins at {low:g}", "logarithms are of numbers above 0"))
    elif not search:
        rule = "an interval has no end of values, and a grid trains them all"
        remedy = "Choose sweep=search, or give values: choice(...), range(...)."
        faults.append(Fault(line, f"{low:g} to {high:g}", rule, remedy))
    else:
        whole = isinstance(low, int) and isinstance(high, int)
        kind = Kind.integer if whole else Kind.number
        yield Axis(key, kind, (), low, high, 1 if whole else None, log)


def _range(
    value: RangeSweep, key: str, line: str, search: bool, faults: list[Fault]
) -> Iterator[Axis]:
    start, stop, step = value.start, value.stop, value.step
    assert start is not None, "range() has both"
    assert stop is not None, "range() has both"
    # Hydra's own adds up steps, and may come out at the end itself
    count = max(0, -int(-((stop - start) / step - 1e-9) // 1)) if step else 0
    values = [start + step * number for number in range(count)]
    whole = all(isinstance(one, int) for one in (start, stop, step))
    kind = Kind.integer if whole else Kind.number
    log = _LOG in value.tags
    if not values:
        faults.append(Fault(line, "no value", "range(start, stop, step) ends before stop"))
        return
    if not search:
        plain = Axis(key, kind)
        yield Axis(key, Kind.choice, tuple(plain.text(one) for one in values))
        return
    if len(values) == 1:
        faults.append(Fault(line, "one value", "a search needs a choice", f"Write {key}=VALUE."))
    elif log and (step != 1 or not whole or min(values) < 1):
        rule = "a logarithmic range has whole numbers above 0, one by one"
        faults.append(Fault(line, "tagged log", rule, "Or choose tag(log, interval(low, high))."))
    else:
        yield Axis(key, kind, (), min(values), max(values), None if log else abs(step), log)
