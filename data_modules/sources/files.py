"""Which files a source names, and which tasks a folder of files has."""

from __future__ import annotations

import errno
import glob
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from enum import Enum
from pathlib import Path

from data_modules.config import DataConfig, SourceConfig, TaskConfig
from data_modules.faults import DataFault, Fault
from data_modules.sources.streams import COMPRESSIONS

HUB = "hub:"


class Kind(Enum):
    """How a file, or what stands for one, is read."""

    jsonl = "jsonl"
    json = "json"
    csv = "csv"
    tsv = "tsv"
    parquet = "parquet"
    arrow = "arrow"
    saved = "saved"  # a folder written by datasets.Dataset(Dict).save_to_disk
    hub = "hub"


_TEXT = (Kind.jsonl, Kind.json, Kind.csv, Kind.tsv)
_TABLES = (Kind.parquet, Kind.arrow)
EXTENSIONS = {f".{kind.value}": kind for kind in (*_TEXT, *_TABLES)} | {
    f".{kind.value}{packed}": kind for kind in _TEXT for packed in COMPRESSIONS
}
_KNOWN = (
    f"{', '.join(f'.{kind.value}' for kind in (*_TEXT, *_TABLES))}; "
    f"text also with {', '.join(COMPRESSIONS)}"
)


def kind_of(path: Path) -> Kind | None:
    """How to read a path; None if it is no data file and no saved data set."""
    if path.is_dir():
        return Kind.saved if is_saved(path) or is_saved_dict(path) else None
    return next((EXTENSIONS[end] for end in EXTENSIONS if path.name.lower().endswith(end)), None)


def is_saved(folder: Path) -> bool:
    """Whether ``datasets.Dataset.save_to_disk`` wrote the folder."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def is_saved_dict(folder: Path) -> bool:
    """Whether ``datasets.DatasetDict.save_to_disk`` wrote the folder: one saved folder a split."""
    return (folder / "dataset_dict.json").is_file()


def saved_split(folder: Path, split: str, where: str) -> Path:
    """The folder of one split of a saved data set; the folder itself where it has no splits.

    Raises:
        DataFault: it has splits, but not this one.
    """
    if not is_saved_dict(folder):
        return folder
    splits = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
    if split not in splits:
        rule = f"its splits are {', '.join(splits)}"
        remedy = "Correct 'split' or 'eval_split' of the source."
        raise DataFault(Fault(where, f"{folder} has no split '{split}'", rule, remedy))
    return folder / split


def source_files(data: DataConfig, where: str, pattern: str) -> list[Path]:
    """Files of one source, sorted; a folder of ``save_to_disk`` counts as one file.

    Args:
        where: dotted key of the pattern, such as ``data.tasks.qa.sources.main.train``.
        pattern: a file, a glob (with ``**``), or a folder, whose data files are taken at any depth;
            relative to ``data.root`` or absolute.

    Raises:
        DataFault: nothing matches, or a named file is of no known kind.
    """
    path = Path(data.root) / pattern
    try:
        return _matching(data, where, pattern, path)
    except OSError as error:
        raise unreadable_source(where, path, error) from error


def unreadable_source(where: str, path: Path, error: OSError) -> DataFault:
    """The fault of a source that the system does not let us read."""
    return DataFault(
        Fault(
            where,
            f"cannot read {error.filename or path} ({error.strerror})",
            "every source needs a readable file, glob or folder",
            "Correct the path, or data.root, which it is relative to, or its permissions.",
        )
    )


def _matching(data: DataConfig, where: str, pattern: str, path: Path) -> list[Path]:
    if path.is_file() or (path.is_dir() and kind_of(path)):
        if kind_of(path) is None:
            raise _none(where, f"{path} is of no known kind")
        return [path]
    if path.is_dir():
        if found := _data_files(_inside(path)):
            return found
        raise _none(where, f"folder {path} has no data file")
    if not glob.has_magic(pattern):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    # root_dir: brackets in data.root itself are no pattern; Path.glob takes no absolute ones
    names = glob.glob(pattern, root_dir=data.root, recursive=True)  # noqa: PTH207
    if found := _data_files(Path(data.root) / name for name in names):
        return found
    seen = f"{len(names)} files match {path}, but none is a data file" if names else ""
    raise _none(where, seen or f"no file matches {path}")


def _none(where: str, seen: str) -> DataFault:
    remedy = "Correct the path, or data.root, which it is relative to."
    return DataFault(Fault(where, seen, f"data files end on {_KNOWN}", remedy))


def _inside(folder: Path) -> Iterator[Path]:
    """All below a folder; OSError where one may not be read, which Path.rglob passes over."""

    def refuse(error: OSError) -> None:
        raise error

    if folder.is_dir():
        for base, folders, names in os.walk(folder, onerror=refuse):
            yield from (Path(base) / name for name in (*folders, *names))


def _data_files(paths: Iterable[Path]) -> list[Path]:
    found = {path for path in paths if kind_of(path) and not path.name.startswith(".")}
    # a saved data set is one source: not its splits, shards and descriptions again
    saved = {path for path in found if path.is_dir()}
    return sorted(path for path in found if saved.isdisjoint(path.parents) and not _describes(path))


def _describes(path: Path) -> bool:
    return path.suffix == ".json" and (is_saved(path.parent) or is_saved_dict(path.parent))


def label_of(data: DataConfig, path: Path) -> str:
    """How origins name a path: relative to ``data.root`` where it lies there."""
    try:
        return path.relative_to(data.root).as_posix()
    except ValueError:
        return str(path)


def discovered_tasks(data: DataConfig) -> dict[str, SourceConfig]:
    """A task for every data file or folder ``train/<task>`` under ``data.root`` that none uses.

    Its evaluation rows are those of ``eval/<task>``, of any extension, where that exists. A task may
    be declared without saying where its rows are: its own settings are kept, and so are those of its
    source ``main``, which the file becomes.

    Returns:
        Source ``main`` by task name, sorted.

    Raises:
        DataFault: several files would make the same task.
    """
    used = _used(data)
    found: dict[str, SourceConfig] = {}
    faults: list[Fault] = []
    held_out = _by_task(Path(data.root) / "eval")
    for task, paths in sorted(_by_task(Path(data.root) / "train").items()):
        unused = [path for path in paths if used.isdisjoint(_resolved([path, *_inside(path)]))]
        if not unused:
            continue
        declared = data.tasks.get(task, TaskConfig()).sources.get("main", SourceConfig())
        if declared.train:
            rule = f"data.tasks.{task} exists and does not use it"
            # most often because it names a file that is not there
            faults += _unread(data, task) or [_clash(data, unused, rule)]
        for several in (unused, held_out.get(task, [])):
            if len(several) > 1:
                faults.append(_clash(data, several, f"each of them would be task '{task}'"))
        evaluation = held_out.get(task, [])
        found[task] = replace(
            declared,
            train=label_of(data, unused[0]),
            eval=declared.eval or (label_of(data, evaluation[0]) if evaluation else ""),
        )
    if faults:
        raise DataFault(faults)
    return found


def _clash(data: DataConfig, paths: list[Path], rule: str) -> Fault:
    names = ", ".join(label_of(data, path) for path in paths)
    remedy = "Rename or remove one, or declare the task's sources and turn data.discover off."
    return Fault("data.discover", names, rule, remedy)


def _by_task(folder: Path) -> dict[str, list[Path]]:
    tasks: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if kind_of(path) or _data_files(_inside(path)):
                tasks.setdefault(path.name, []).append(path)
        elif kind_of(path):
            end = max((end for end in EXTENSIONS if path.name.lower().endswith(end)), key=len)
            tasks.setdefault(path.name[: -len(end)], []).append(path)
    return tasks


def _resolved(paths: Iterable[Path]) -> set[Path]:
    return {path.resolve() for path in paths}


def _unread(data: DataConfig, task: str) -> list[Fault]:
    """Faults of a declared task's sources that name nothing to read."""
    faults: list[Fault] = []
    for name, source in data.tasks[task].sources.items():
        for split, pattern in (("train", source.train), ("eval", source.eval)):
            if pattern and not pattern.startswith(HUB):
                try:
                    source_files(data, f"data.tasks.{task}.sources.{name}.{split}", pattern)
                except DataFault as fault:
                    faults += fault.faults
    return faults


def _used(data: DataConfig) -> set[Path]:
    """Every file that a task's sources name."""
    used: set[Path] = set()
    for task in data.tasks.values():
        for source in task.sources.values():
            for pattern in (source.train, source.eval):
                if not pattern or pattern.startswith(HUB):
                    continue
                try:
                    used |= _resolved(source_files(data, "", pattern))
                except DataFault:
                    continue  # told where the source is read
    return used
