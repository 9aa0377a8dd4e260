"""A fingerprint of everything that the rows of tasks depend on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_modules.config import DataConfig
from data_modules.sources.files import HUB, Kind, kind_of, label_of, saved_split, source_files
from data_modules.sources.tables import hub_name
from data_modules.sources.units import source_key, source_pattern

#: Raise it when the same files and settings give other records than before.
VERSION = 1

_CHUNK = 1 << 20
_SHA256 = re.compile("[0-9a-f]{64}")


def source_digest(data: DataConfig, tasks: Iterable[str], split: str, cache_dir: Path) -> str:
    """sha256 over the files of the tasks' sources and the settings that change their rows.

    Where ``data.root`` lies does not matter, nor do settings that only draw from the rows, such as
    ``weight``.

    Args:
        split: "train" or "eval".
        cache_dir: keeps the hashes of files by path, size and time of change, so that a large file
            is read once.

    Raises:
        DataFault: files are missing.
    """
    parts: list[Any] = [VERSION, split]
    for task in tasks:
        for name, source in data.tasks[task].sources.items():
            pattern, split_name = source_pattern(source, split)
            if not pattern:
                continue
            settings = {
                "task": task,
                "source": name,
                "format": source.format.value,
                "fields": source.fields,
                "where": source.where.strip(),
            }
            if pattern.startswith(HUB):
                files: list[Any] = [
                    *(pattern, source.subset, split_name),
                    _hub_revision(pattern.removeprefix(HUB), cache_dir),
                ]
            else:
                where = f"{source_key(task, name)}.{split}"
                files = []
                for path in source_files(data, where, pattern):
                    if kind_of(path) is Kind.saved:
                        path = saved_split(path, split_name, where)
                    files.append([label_of(data, path), _content(path, cache_dir)])
            parts.append([settings, files])
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _content(path: Path, cache_dir: Path) -> str:
    """Hash of a file, or of the shards of a saved data set."""
    if path.is_dir():
        # the other files hold times and random names, new every time
        shards = sorted(path.glob("*.arrow"))
        joined = " ".join(_file_hash(shard, cache_dir) for shard in shards)
        return hashlib.sha256(joined.encode()).hexdigest()
    return _file_hash(path, cache_dir)


def _file_hash(path: Path, cache_dir: Path) -> str:
    stat = path.stat()
    key = f"{path.resolve()}\0{stat.st_size}\0{stat.st_mtime_ns}"
    # one small file a hash: processes that hash at the same time lose nothing of each other
    known = cache_dir / "hashes" / hashlib.sha256(os.fsencode(key)).hexdigest()
    if known.is_file():
        kept = known.read_bytes().decode("ascii", "replace")
        if _SHA256.fullmatch(kept):  # else it was cut short
            return kept
    made = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            made.update(piece)
    known.parent.mkdir(parents=True, exist_ok=True)
    scratch = known.with_name(f"{known.name}.tmp{os.getpid()}")
    try:
        scratch.write_text(made.hexdigest(), encoding="ascii")
        scratch.replace(known)
    finally:
        scratch.unlink(missing_ok=True)
    return made.hexdigest()


def _hub_revision(name: str, cache_dir: Path) -> str:
    """What tells versions of a hub data set apart: files of a local one, else its commit."""
    repository, revision = hub_name(name)
    folder = Path(repository)
    if folder.is_dir():
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        return " ".join(f"{p.relative_to(folder)} {_file_hash(p, cache_dir)}" for p in paths)
    from huggingface_hub import HfApi  # needs network, as the data set itself does

    try:
        return str(HfApi().dataset_info(repository, revision=revision, timeout=10).sha)
    except Exception:  # without network the data set comes from a cache, of which nothing is known
        return revision or "unknown"
