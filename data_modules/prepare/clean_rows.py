"""All clean rows of a run: every unit cleaned, then the rows compared with each other."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import uuid4

import numpy as np

from data_modules.config import DataConfig
from data_modules.faults import DataFault, Fault
from data_modules.prepare.clean_store import CleanRows, Part
from data_modules.prepare.clean_unit import (
    REJECTS_FILE,
    CleanJob,
    UnitStats,
    clean_unit,
)
from data_modules.prepare.compare import compare_rows
from data_modules.prepare.fingerprints import rows_fingerprint
from data_modules.prepare.pool import Progress, run_jobs, silent, workers_for
from data_modules.records import Reject
from data_modules.rejects import RejectCounts, add_counts, reject_line, too_many
from data_modules.samples import damaged, saved_array, saved_object
from data_modules.sealing import LOGGER, damage_of, made_anew, scratch_beside, seal
from data_modules.sources.units import units_of

_COMPARED = "compared"
_COMPLETE = "complete.json"


@dataclass(frozen=True)
class Cleaned:
    """What cleaning left and what it found.

    Attributes:
        units: figures of every unit, before rows were compared with each other.
        compared: task -> rule -> rows left out by the comparison.
    """

    fingerprint: str
    rows: CleanRows
    units: tuple[UnitStats, ...]
    compared: RejectCounts

    @property
    def rejects_file(self) -> Path:
        """JSON lines of every row that was left out, with its rule and reason."""
        return self.rows.folder / REJECTS_FILE

    def rejects(self) -> RejectCounts:
        """Rows left out: task -> rule -> count."""
        by_unit = (
            {unit.task: rules} for unit in self.units for rules in (unit.unreadable, unit.rejects)
        )
        return add_counts([*by_unit, self.compared])


def clean_rows(
    data: DataConfig, tasks: Sequence[str], progress: Progress = silent, thorough: bool = False
) -> Cleaned:
    """Read and clean the training rows of ``tasks``; what is finished already is only opened.

    Args:
        thorough: look not only at the sizes of finished files but at what they hold.

    Raises:
        DataFault: sources that cannot be read, or more rows left out than
            ``data.max_reject_ratio`` and ``data.cleaning.max_drop_ratio`` allow.
    """
    cache = Path(data.cache_dir)
    fingerprint = rows_fingerprint(data, tasks, cache)
    folder = cache / "rows" / fingerprint[:20]
    if not _is_complete(folder, thorough):
        _clean(data, tasks, folder, progress)
    found = saved_object(folder, _COMPLETE)
    try:
        stats = tuple(UnitStats(**unit) for unit in found["units"])
        compared: RejectCounts = found["compared"]
        parts = tuple(
            Part(folder / one["folder"], one["task"], one["rows"]) for one in found["parts"]
        )
    except (KeyError, TypeError) as error:
        raise damaged(folder, f"{_COMPLETE} lacks {error}") from error
    _check_ratios(data, folder, stats, compared)
    keep = saved_array(folder / _COMPARED, "keep", np.bool_) if parts else np.empty(0, bool)
    if len(keep) != sum(part.rows for part in parts):
        raise damaged(folder, f"keep.npy has {len(keep):,} rows, {_COMPLETE} tells of others")
    return Cleaned(fingerprint, CleanRows(folder, parts, keep), stats, compared)


def _is_complete(folder: Path, thorough: bool) -> bool:
    """Whether all is there and as it was left; says so where it is not."""
    if not (folder / _COMPLETE).is_file():
        return False
    damage = damage_of(folder)
    if not damage:
        pieces = [*sorted(folder.glob("unit_?????")), folder / _COMPARED]
        found = ((piece, damage_of(piece, quick=not thorough)) for piece in pieces)
        damage = next((f"{piece.name}: {one}" for piece, one in found if one), "")
        units = len(saved_object(folder, _COMPLETE).get("units", ()))
        if not damage and len(pieces) != units + 1:
            damage = f"{len(pieces) - 1} of {units} units are there"
    if damage:
        LOGGER.warning("cache entry %s is damaged (%s); what is is made again", folder, damage)
    return not damage


def _clean(data: DataConfig, tasks: Sequence[str], folder: Path, progress: Progress) -> None:
    """Do what is not done yet, or is damaged; the last file written is the seal of all."""
    units = units_of(data, tasks, "train")
    jobs = [
        CleanJob(unit, data.tasks, data.cleaning, folder / f"unit_{number:05d}")
        for number, unit in enumerate(units)
    ]
    size = sum(_size(path) for path in {str(unit.path) for unit in units})
    workers = workers_for(data.workers, size)
    stats = run_jobs(clean_unit, jobs, workers, "read and clean", progress)
    _check_ratios(data, folder, stats, {})
    parts = [Part.open(part) for job in jobs for part in sorted(job.folder.glob("part_*"))]
    compared = folder / _COMPARED
    progress("compare rows", 0, 1)
    if made_anew(compared):
        _compare(data, parts, compared)
    progress("compare rows", 1, 1)
    folders = [*(job.folder for job in jobs), compared]
    join_files([one / REJECTS_FILE for one in folders], folder / REJECTS_FILE)
    complete = {
        "units": [asdict(unit) for unit in stats],
        "parts": [
            {"folder": str(part.folder.relative_to(folder)), "task": part.task, "rows": part.rows}
            for part in parts
        ],
        "compared": json.loads((compared / "counts.json").read_text(encoding="utf-8")),
    }
    scratch = folder / f"{_COMPLETE}.tmp{uuid4().hex}"
    try:
        scratch.write_text(json.dumps(complete), encoding="utf-8")
        scratch.replace(folder / _COMPLETE)
    finally:
        scratch.unlink(missing_ok=True)
    seal(folder, [_COMPLETE, REJECTS_FILE])


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:  # a hub data set
        return 0


def join_files(files: Iterable[Path], target: Path) -> None:
    """Write files one behind the other, in one rename."""
    # a name of its own: hosts that share the cache may write the same file at once
    scratch = target.with_name(f"{target.name}.tmp{uuid4().hex}")
    try:
        with scratch.open("wb") as out:
            for file in files:
                with file.open("rb") as one:
                    shutil.copyfileobj(one, out)
        scratch.replace(target)
    finally:
        scratch.unlink(missing_ok=True)


def _compare(data: DataConfig, parts: Sequence[Part], folder: Path) -> None:
    """Find duplicates and contamination; leave ``keep.npy``, ``counts.json`` and their rejects."""
    keep = np.ones(sum(part.rows for part in parts), dtype=bool)
    counts: dict[str, Counter[str]] = {}
    with scratch_beside(folder) as scratch:
        with (scratch / REJECTS_FILE).open("w", encoding="utf-8") as file:
            for row, reject in compare_rows(data, folder.parent, parts):
                keep[row] = False
                file.write(reject_line(reject))
                counts.setdefault(reject.task, Counter())[reject.rule] += 1
        np.save(scratch / "keep.npy", keep)
        (scratch / "counts.json").write_text(json.dumps(counts), encoding="utf-8")


def _check_ratios(
    data: DataConfig, folder: Path, stats: Sequence[UnitStats], compared: RejectCounts
) -> None:
    """Too many unreadable rows in a file, or too many rows of a task cleaned away.

    Args:
        compared: as in :class:`Cleaned`; empty as long as rows are not compared yet.
    """
    faults: list[Fault] = []
    numbers_of: dict[tuple[str, str], list[int]] = {}
    for number, unit in enumerate(stats):
        numbers_of.setdefault((unit.task, unit.path), []).append(number)
    for numbers in numbers_of.values():
        read = sum(stats[number].read - stats[number].not_selected for number in numbers)
        bad = sum(sum(stats[number].unreadable.values()) for number in numbers)
        if bad > data.max_reject_ratio * read:
            rejects = (
                reject
                for number in numbers
                for reject in _unreadable(folder / f"unit_{number:05d}", stats[number])
            )
            faults += too_many(rejects, bad, read, data.max_reject_ratio)
    for task in dict.fromkeys(unit.task for unit in stats):
        mine = [unit for unit in stats if unit.task == task]
        rules: Counter[str] = sum((Counter(unit.rejects) for unit in mine), Counter())
        read = rules.total() + sum(unit.kept for unit in mine)
        rules.update(compared.get(task, {}))
        if rules.total() > data.cleaning.max_drop_ratio * read:
            faults.append(
                Fault(
                    f"data.tasks.{task}",
                    f"cleaning leaves out {rules.total()} of {read} rows ("
                    + ", ".join(f"{count} {rule}" for rule, count in rules.most_common())
                    + ")",
                    f"data.cleaning.max_drop_ratio is {data.cleaning.max_drop_ratio:g}",
                    f"Look at {folder}/**/{REJECTS_FILE}; mend the rows, switch the rule off, or "
                    "raise data.cleaning.max_drop_ratio.",
                )
            )
    if faults:
        raise DataFault(faults)


def _unreadable(folder: Path, stats: UnitStats) -> Iterator[Reject]:
    if not stats.unreadable:
        return
    with (folder / REJECTS_FILE).open(encoding="utf-8") as file:
        for line in file:
            reject = Reject(**json.loads(line))
            if reject.rule in stats.unreadable:
                yield reject
