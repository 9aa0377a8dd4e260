"""Names that become files and folders: tasks, sources, phases and groups, and the run's own.

They come from YAML keys, the command line and the names of data files. A task named ``../x`` would write
its answers outside the run directory.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePath

from data_modules.faults import Fault
from data_modules.report.visible import visible
from trainer.config.schema import Config
from trainer.run_directory import INITIAL, is_step_column

_MOST_BYTES = 100  # of 255 that a file name may have: suffixes and scratch names come behind it


def name_faults(config: Config) -> Iterator[Fault]:
    """A fault for every name that cannot stand for a file of its own."""
    yield from _run_name(config.run_name)
    for task, settings in config.data.tasks.items():
        yield from _plain(f"data.tasks.{task}", task)
        for source in settings.sources:
            yield from _plain(f"data.tasks.{task}.sources.{source}", source)
    for group in config.data.groups:
        yield from _plain(f"data.groups.{group}", group)
    for phase in config.curriculum.phases:
        key = f"curriculum.phases.{phase}"
        yield from _plain(key, phase)
        if phase == INITIAL or is_step_column(phase):
            rule = "evaluations before and between phases are kept under it"
            yield Fault(visible(key), "a reserved name", rule, "Rename the phase.")


def _plain(key: str, name: str) -> Iterator[Fault]:
    problem = _problem(name)
    if not problem and "/" in name:
        problem = "it holds a slash"
    if problem:
        rule = "names of tasks, sources, groups and phases become file names"
        yield Fault(visible(key), problem, rule, "Rename it, with letters, digits, - and _.")


def _run_name(name: str) -> Iterator[Fault]:
    """A run may lie in folders, ``sweep/one``, but nowhere else."""
    parts = PurePath(name).parts
    problem = next(filter(None, map(_problem, parts)), "") or _problem(name.replace("/", ""))
    if PurePath(name).is_absolute():
        problem = "it is an absolute path"
    if name.strip() and problem:
        rule = "a run's name is a path below outputs"
        yield Fault(
            "run_name", f"{visible(name)}: {problem}", rule, "Set output_dir=... for a place."
        )


def _problem(name: str) -> str:
    if not name.strip():
        return "it is empty"
    if name.startswith("."):
        return "it starts with a dot"
    if "\\" in name:
        return "it holds a backslash"
    if visible(name) != name or "\n" in name or "\t" in name:
        return "it holds characters that cannot be seen"
    if name != name.strip():
        return "it starts or ends with a blank"
    if len(name.encode()) > _MOST_BYTES:
        return f"it has {len(name.encode())} bytes, more than {_MOST_BYTES}"
    return ""
