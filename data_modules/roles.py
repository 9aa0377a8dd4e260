"""Roles: which tasks a phase trains on, and as what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from data_modules.mixture import AUTO_HARD, MixtureConfig

if TYPE_CHECKING:  # it brings the benchmark's tokenizer with it, which planning does not need
    from data_modules.config import DataConfig


@dataclass(frozen=True)
class Roles:
    """The tasks of one phase after group names are resolved."""

    main: tuple[str, ...]
    rest: tuple[str, ...]
    general: tuple[str, ...]

    @property
    def all(self) -> tuple[str, ...]:
        """Every task the phase draws from."""
        return self.main + self.rest + self.general


def is_automatic(mixture: MixtureConfig) -> bool:
    """Whether the tasks of a phase are picked by an evaluation."""
    return AUTO_HARD in mixture.tasks


def hard_candidates(data: DataConfig) -> tuple[str, ...]:
    """The tasks that ``auto_hard`` may stand for: specialised ones with training rows."""
    return tuple(
        sorted(
            name
            for name, task in data.tasks.items()
            if not task.general and any(one.train and one.weight for one in task.sources.values())
        )
    )


def resolve_roles(data: DataConfig, mixture: MixtureConfig) -> Roles:
    """Replace group names by tasks.

    Raises:
        KeyError: a name is neither a task nor a group.
    """
    general = tuple(sorted(name for name, task in data.tasks.items() if task.general))
    special = tuple(sorted(set(data.tasks) - set(general)))
    groups = {"all": special, "general": general, **data.groups}
    main: dict[str, None] = {}  # a set that keeps the declared order, which `sequential` follows
    for name in mixture.tasks:
        if name not in groups and name not in data.tasks:
            raise KeyError(name)
        main |= dict.fromkeys(groups.get(name, (name,)))
    rest = tuple(task for task in special if task not in main) if mixture.rest_share else ()
    return Roles(tuple(main), rest, general if mixture.replay else ())
