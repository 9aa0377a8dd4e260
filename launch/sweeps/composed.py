"""Configurations of a sweep's runs: composed as training composes them, all faults at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from data_modules.faults import ConfigFault, Fault, UserFault
from launch.submission.composed import compose_with_choices
from launch.submission.job import ranks_per_node
from trainer.config.schema import Config
from trainer.config.validate import validate

_PLAIN = re.compile(r"[\w./@%+-]+")


@dataclass(frozen=True)
class Composed:
    """A configuration, and the file that was chosen of every group of ``conf/``."""

    config: Config
    choices: dict[str, str]


def quoted(value: str) -> str:
    """A text as the value of an override."""
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def compose_all(runs: Iterable[tuple[str, Sequence[str]]]) -> dict[str, Composed]:
    """Compose and check every run before any is trained.

    Args:
        runs: name and overrides of each.

    Raises:
        ConfigFault: with all faults of all of them, those that runs share once.
    """
    found: dict[str, Composed] = {}
    wrong: dict[Fault, list[str]] = {}
    count = 0
    for name, overrides in runs:
        count += 1
        try:
            config, choices = compose_with_choices(overrides)
            found[name] = Composed(config, choices)
            validate(config, config.cluster.nodes * ranks_per_node(config.cluster))
        except UserFault as error:
            for fault in error.faults:
                wrong.setdefault(fault, []).append(name)
    if wrong:
        raise ConfigFault(
            fault if len(names) == count else _told_of(fault, names)
            for fault, names in wrong.items()
        )
    return found


def _told_of(fault: Fault, names: Sequence[str]) -> Fault:
    """The fault with the runs that have it."""
    first = ", ".join(names[:3])
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return Fault(f"{fault.where} (run {first}{more})", fault.seen, fault.rule, fault.remedy)
