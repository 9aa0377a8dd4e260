"""The runs of a sweep: their values, their names, their overrides."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from launch.sweeps.syntax import Asked, Axis

_SEED = "seed"
_ODD = re.compile(r"[^A-Za-z0-9._+-]+")
_MOST = 80  # bytes of a folder's name: files of its own name lie beside it


@dataclass(frozen=True)
class Member:
    """One run of a sweep.

    Attributes:
        name: of its folder; says its values.
        values: axis -> value, as a command line has it.
        overrides: all but those that give it a place.
    """

    name: str
    values: dict[str, str]
    overrides: tuple[str, ...]


def member(name: str, asked: Asked, values: Mapping[str, str]) -> Member:
    """A run with these values; axes without a value keep their default."""
    varied = tuple(
        f"{axis.override}={values[axis.key]}" for axis in asked.axes if axis.key in values
    )
    return Member(name, dict(values), (*asked.fixed, *varied))


def grid(asked: Asked) -> list[Member]:
    """A run for every combination of values; the last axis varies fastest."""
    titles = titles_of([axis.key for axis in asked.axes])
    members: dict[str, Member] = {}
    for texts in itertools.product(*(axis.choices for axis in asked.axes)):
        values = {axis.key: text for axis, text in zip(asked.axes, texts, strict=True)}
        wanted = name_of({titles[key]: text for key, text in values.items()})
        name, number = wanted, 1
        while name in members:
            number += 1
            name = f"{wanted}-{number}"
        members[name] = member(name, asked, values)
    return list(members.values())


def titles_of(keys: Sequence[str]) -> dict[str, str]:
    """What keys are called: as much of their ends as tells them apart."""
    parts = {key: re.split(r"[./@]", key) for key in keys}

    def end(key: str, count: int) -> tuple[str, ...]:
        return tuple(parts[key][-count:])

    titles = {}
    for key in keys:
        count = 1
        while count < len(parts[key]) and any(
            end(other, count) == end(key, count) for other in keys if other != key
        ):
            count += 1
        titles[key] = ".".join(end(key, count))
    return titles


def name_of(values: Mapping[str, str]) -> str:
    """A folder's name that says the values; the seed stands last, where reports look for it."""
    words = [f"{title}-{_slug(text)}" for title, text in values.items() if title != _SEED]
    words += [f"seed{_slug(text)}" for title, text in values.items() if title == _SEED]
    name = "-".join(words) or "run"
    if len(name) > _MOST:
        digest = hashlib.sha256(repr(sorted(values.items())).encode()).hexdigest()[:8]
        name = f"{name[: _MOST - 9].rstrip('-._')}-{digest}"
    return name


def _slug(text: str) -> str:
    return _ODD.sub("_", text).strip("_") or "empty"


def axis_titles(axes: Sequence[Axis]) -> dict[str, str]:
    """Key of an axis -> what it is called."""
    return titles_of([axis.key for axis in axes])
