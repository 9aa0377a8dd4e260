"""Settings that are paths: what no file system takes is refused before anything looks there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import PurePath

from data_modules.config import DataConfig
from data_modules.faults import Fault
from trainer.config.schema import Config

_MOST_BYTES = 255  # of a file's name, on every file system in use
_MOST_IN_ALL = 4000  # of a path, with room for what is put behind it


def path_faults(config: Config) -> Iterator[Fault]:
    """A fault for every path that cannot be one: the system would raise where it is first used."""
    for key, path in _paths(config):
        if path is not None and (problem := _problem(path)):
            yield Fault(
                key, f"{path[:40]!r}: {problem}", "it names a file or folder", f"Set {key}=..."
            )


def _paths(config: Config) -> Iterator[tuple[str, str | None]]:
    for key in ("output_dir", "init_from", "resume"):
        yield key, getattr(config, key)
    for key in ("path", "tokenizer"):
        yield f"model.{key}", getattr(config.model, key)
    yield from _data_paths(config.data)
    for phase, mixture in config.curriculum.phases.items():
        where = f"curriculum.phases.{phase}"
        yield f"{where}.balance.difficulty_from", mixture.balance.difficulty_from
        yield f"{where}.auto_hard.evaluation", mixture.auto_hard.evaluation


def _data_paths(data: DataConfig) -> Iterator[tuple[str, str | None]]:
    for key in ("root", "cache_dir", "row_losses", "chat_template"):
        yield f"data.{key}", getattr(data, key)
    for list_name in ("keep", "drop"):
        for index, entry in enumerate(getattr(data.cleaning, list_name)):
            if entry.startswith("@"):
                yield f"data.cleaning.{list_name}[{index}]", entry[1:]
    for task, settings in data.tasks.items():
        for name, source in settings.sources.items():
            where = f"data.tasks.{task}.sources.{name}"
            yield f"{where}.train", source.train
            yield f"{where}.eval", source.eval
            for prompt_set, path in source.eval_sets.items():
                yield f"{where}.eval_sets.{prompt_set.value}", path


def _problem(path: str) -> str:
    if "\0" in path:
        return "it holds a NUL"
    try:
        whole = os.fsencode(path)
    except UnicodeEncodeError:
        return "it holds half a surrogate pair"
    longest = max((len(os.fsencode(part)) for part in PurePath(path).parts), default=0)
    if longest > _MOST_BYTES:
        return f"a name in it has {longest} bytes, more than {_MOST_BYTES}"
    return (
        f"it has {len(whole)} bytes, more than {_MOST_IN_ALL}" if len(whole) > _MOST_IN_ALL else ""
    )
