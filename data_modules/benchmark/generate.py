"""Write a benchmark to a folder: atomically, once, and the same bytes every time."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import asdict
from itertools import islice
from pathlib import Path

from data_modules.benchmark.flaws import contrast_rows, poor_rows_of, spoiled
from data_modules.benchmark.general import skill_of
from data_modules.benchmark.rows import SPLITS, rows
from data_modules.benchmark.spec import ALL_TASKS, GENERAL, TASKS, BenchmarkSpec
from data_modules.benchmark.tokenizer import build_tokenizer

#: Raised whenever the same spec gives other bytes.
FORMAT_VERSION = 2

SPEC_FILE = "spec.json"
TOKENIZER_FOLDER = "tokenizer"
#: Training rows of the base model; written only when `base_rows` asks for some.
BASE_FILE = "train/base.jsonl"

#: Rows of the skill `pairs` alone, one for every CELLS_SHARE rows of the base corpus. A model of a
#: million parameters that meets all skills at once names no digit after 6,000 steps; after 200 steps
#: of these rows it learns the rest (docs/benchmarks.md).
CELLS_FILE = "train/base_cells.jsonl"
CELLS_SHARE = 20


def generate(spec: BenchmarkSpec, root: str | os.PathLike[str]) -> Path:
    """Make `root` hold the benchmark of `spec`, and return it.

    Files: `<split>/<task>.jsonl` for the splits train, eval, eval_paraphrase and eval_conflict and
    all eleven tasks; `train/base.jsonl` and `train/base_cells.jsonl` when `spec.base_rows` > 0;
    `tokenizer/`; `spec.json` (spec, format version, sha256 of each file). A complete copy of the
    same spec is reused. Everything is written to a temporary folder beside `root` that is renamed
    at the end, so `root` is complete whenever it exists; of processes that call this at once one
    wins and the others use its copy.

    Raises:
        ValueError: when the spec is invalid, when `root` holds the benchmark of another spec or
            format version (both are named), or when it holds something else or a damaged copy.
            Nothing is overwritten.
    """
    spec.validate()
    root = Path(root)
    if _holds(root, spec):
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    try:
        _write(spec, work)
        # mkdtemp makes the folder private; a benchmark is shared like any other output.
        work.chmod(0o755)
        try:
            work.rename(root)
        except OSError:
            # Someone else's complete copy has taken the place meanwhile, or the place cannot be
            # taken at all.
            if not _holds(root, spec):
                raise
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return root


def _identity(spec: BenchmarkSpec) -> dict[str, object]:
    """What decides the bytes, as plain JSON; counts left out of `task_rows` are filled in."""
    fields = asdict(spec)
    fields["task_rows"] = {task: spec.rows_of(task) for task in ALL_TASKS if task != GENERAL}
    # task_rows now holds final counts: 50 rows doubled and 100 rows as they are make the same
    # files.
    fields["multiplier"] = 1.0
    # Folders that were made before these settings existed stay what they are.
    for name in ("poor_rows", "contrast_rows"):
        if not fields[name]:
            del fields[name]
    return {"format_version": FORMAT_VERSION, "spec": fields}


def _holds(root: Path, spec: BenchmarkSpec) -> bool:
    """True if `root` is a complete copy for `spec`, False if it is free to be taken (absent or an
    empty folder)."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    try:
        found = json.loads((root / SPEC_FILE).read_text(encoding="utf-8"))
        seen = {"format_version": found["format_version"], "spec": found["spec"]}
        files = {str(name): digest for name, digest in dict(found["files"]).items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{root} exists but has no readable {SPEC_FILE} ({error!r}): it is no benchmark "
            "folder. Choose another folder or remove it."
        ) from error
    wanted = _identity(spec)
    if seen != wanted:
        raise ValueError(
            f"{root} holds a benchmark of another spec. There: {json.dumps(seen, sort_keys=True)}. "
            f"Wanted: {json.dumps(wanted, sort_keys=True)}. Choose another folder or remove it."
        )
    damaged = [name for name, digest in files.items() if _digest(root / name) != digest]
    if damaged:
        raise ValueError(
            f"{root}: missing or changed since it was written: {', '.join(damaged)}. "
            "Remove the folder."
        )
    return True


def _digest(path: Path) -> str | None:
    """The file's sha256, or None if there is no such file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write(spec: BenchmarkSpec, root: Path) -> None:
    poor = poor_rows_of(spec)
    for split in SPLITS:
        for task in ALL_TASKS:
            flaws = poor.get(task, {}) if split == "train" else {}
            wanted = spec.rows_of(task) if split == "train" else spec.eval_rows
            _write_rows(
                root / split / f"{task}.jsonl",
                (
                    spoiled(spec, task, row, flaws[number]) if number in flaws else row
                    for number, row in enumerate(islice(rows(spec, split, task), wanted))
                ),
            )
    contrast = list(contrast_rows(spec))
    for task in TASKS if contrast else ():
        mine = (row for row in contrast if row["task"] == task)
        _write_rows(root / "contrast" / f"{task}.jsonl", mine)
    if spec.base_rows:
        base = rows(spec, "train", GENERAL, stream_name="base")
        _write_rows(root / BASE_FILE, islice(base, spec.base_rows))
        named = (
            row
            for row in rows(spec, "train", GENERAL, stream_name="base_cells")
            if skill_of(row["instruction"]) == "pairs"
        )
        _write_rows(root / CELLS_FILE, islice(named, spec.base_rows // CELLS_SHARE))
    build_tokenizer().save_pretrained(root / TOKENIZER_FOLDER)
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    manifest = {**_identity(spec), "files": {name: _digest(root / name) for name in names}}
    (root / SPEC_FILE).write_text(
        json.dumps(manifest, indent=2, sort_keys=True) + "\n", encoding="utf-8"
    )


def _write_rows(path: Path, lines: Iterable[dict[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in lines:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
