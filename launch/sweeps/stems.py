"""Phases that several runs of a sweep have in common are trained once: a tree of their beginnings.

A run forks from a stem by ``resume=STEM``: it takes over weights, moments and all that was measured, and is
the run that trains the whole by itself, to the last bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_modules.roles import resolve_roles
from launch.composing import CONFIG_FOLDER
from trainer.config.schema import Config
from trainer.config.strict_merge import to_plain
from trainer.course import listed_course
from trainer.curriculum import selected

# How a run is started and shown, and not what it makes.
_APART = ("run_name", "output_dir", "resume", "logging", "cluster", "sweep")


@dataclass(frozen=True)
class Stem:
    """Phases that are trained once for several runs.

    Attributes:
        name: of its folder.
        phases: from the first on.
        parent: the stem that it goes on from; None begins anew.
        like: the run whose settings it has.
    """

    name: str
    phases: tuple[str, ...]
    parent: str | None
    like: str


@dataclass(frozen=True)
class Tree:
    """Stems, parents before children, and which of them every run goes on from."""

    stems: tuple[Stem, ...]
    stem_of: dict[str, str | None]


def beginning(config: Config, count: int) -> str:
    """Digest of all that makes the first ``count`` phases of a run; equal ones come out equal."""
    plain: dict[str, Any] = {
        key: value for key, value in to_plain(config).items() if key not in _APART
    }
    names = list(selected(config))[:count]
    phases = plain["curriculum"]["phases"]
    plain["curriculum"] = {"select": names, "phases": [phases[name] for name in names]}
    return hashlib.sha256(json.dumps(plain, sort_keys=True, default=str).encode()).hexdigest()


def digest(config: Config) -> str:
    """Digest of all that makes a run."""
    return beginning(config, len(config.curriculum.phases))


def can_fork_behind(config: Config, count: int) -> bool:
    """Whether the first phases can be a run of their own that this one goes on from.

    Its checkpoint is what is gone on from; ``+phase=`` selects by the files of ``conf/phase``; and rows are
    cleaned among those of all trained tasks, so a task that only comes later may decide about earlier rows.
    """
    names = list(selected(config))
    if not config.checkpoint.sharded or not 0 < count < len(names):
        return False
    if any(not (CONFIG_FOLDER / f"phase/{name}.yaml").is_file() for name in names[:count]):
        return False
    return _trained(config, names[:count]) == _trained(config, names)


def _trained(config: Config, names: Sequence[str]) -> set[str]:
    phases = listed_course(config).phases
    roles = [resolve_roles(config.data, phases[name]) for name in names]
    return {task for one in roles for task in (*one.main, *one.rest, *one.general)}


def shared(configs: Mapping[str, Config]) -> Tree:
    """The stems of these runs, by name: as few as train no phase twice."""
    stems: list[Stem] = []
    stem_of: dict[str, str | None] = dict.fromkeys(configs)
    keys: dict[tuple[str, int], str | None] = {}

    def key(name: str, count: int) -> str | None:
        """What runs that share so many phases have in common; None where this run cannot fork there."""
        if (name, count) not in keys:
            config = configs[name]
            fits = can_fork_behind(config, count)
            keys[name, count] = beginning(config, count) if fits else None
        return keys[name, count]

    def branch(names: Sequence[str], count: int, parent: str | None) -> None:
        groups: dict[str, list[str]] = {}
        for name in names:
            stem_of[name] = parent
            found = key(name, count + 1)
            if found is not None:
                groups.setdefault(found, []).append(name)
        for group in groups.values():
            if len(group) == 1:
                continue
            end = count + 1
            while key(group[0], end + 1) is not None and (
                len({key(name, end + 1) for name in group}) == 1
            ):
                end += 1
            phases = tuple(selected(configs[group[0]]))[:end]
            number = sum(one.phases == phases for one in stems) + 1
            stem = Stem(f"{'-'.join(phases)}-{number}", phases, parent, group[0])
            stems.append(stem)
            branch(group, end, stem.name)

    branch(list(configs), 0, None)
    return Tree(tuple(stems), stem_of)
