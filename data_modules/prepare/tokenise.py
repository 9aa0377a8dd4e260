"""Clean rows -> a :class:`SampleStore` in one wording, tokenised once and cached by fingerprint."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.chat import ChatFormat
from data_modules.chat_rendering import TemplateSurprise
from data_modules.config import DataConfig
from data_modules.negatives import (
    Choice,
    choose_negatives,
    explicit_negatives,
    made_negatives,
)
from data_modules.prepare.clean_rows import Cleaned, join_files
from data_modules.prepare.clean_store import CleanRows
from data_modules.prepare.clean_unit import REJECTS_FILE
from data_modules.prepare.pool import Progress, run_jobs, silent, workers_for
from data_modules.prepare.tokeniser import Tokeniser, TokenStats, Wording
from data_modules.records import Record, Reject
from data_modules.rejects import reject_line
from data_modules.samples import SampleStore, join_stores
from data_modules.sealing import is_whole, made_anew, scratch_beside

STATS_FILE = "stats.json"
# What decides about a pool of workers: the bytes of a clean row, roughly.
_BYTES_PER_ROW = 200
_NEGATIVES_PER_JOB = 5_000


@dataclass(frozen=True)
class _Job:
    """Samples of one part of the clean rows, or of some made negatives, to be left in ``folder``."""

    folder: Path
    part: int | None = None
    negatives: Choice | None = None


class _Process:
    """What every job of this process shares; sent once, as a tokenizer is large."""

    tasks: tuple[str, ...]
    rows: CleanRows
    tokeniser: Tokeniser


def _set_up(
    tasks: tuple[str, ...], rows: CleanRows, data: DataConfig, wording: Wording, chat: ChatFormat
) -> None:
    _Process.tasks, _Process.rows = tasks, rows
    _Process.tokeniser = Tokeniser(data, wording, chat)


def _run(job: _Job) -> TokenStats:
    if not made_anew(job.folder):
        return TokenStats.read(job.folder / STATS_FILE)
    records = _part_records(job.part) if job.part is not None else _made(job.negatives)
    stats, rejects = TokenStats(), list[Reject]()
    samples = _Process.tokeniser.samples(records, stats, rejects)
    store = SampleStore.build(_Process.tasks, samples)
    with scratch_beside(job.folder) as scratch:
        store.write(scratch)
        lines = "".join(map(reject_line, rejects))
        (scratch / REJECTS_FILE).write_text(lines, encoding="utf-8")
        stats.write(scratch / STATS_FILE)
    return stats


def _part_records(number: int) -> Iterator[Record]:
    """The rows of a part, each followed by the negatives that it brings."""
    rows = _Process.rows
    for record in rows.parts[number].records(rows.kept(number)):
        if not record.negative:
            yield record
        yield from explicit_negatives(record)


def _made(choice: Choice | None) -> Iterator[Record]:
    assert choice is not None
    clean = _Process.rows
    rows_of = {task: clean.right_rows(task) for task in choice.tasks}
    names = np.array(choice.tasks)
    wanted = [
        rows_of[task][place]
        for ids, places in ((choice.task_ids, choice.rows), (choice.other_ids, choice.other_rows))
        for task, place in zip(names[ids], places, strict=True)
    ]
    found = clean.fetch(wanted)

    def fetch(task: str, place: int) -> Record:
        row = int(rows_of[task][place])
        return found.get(row) or clean.fetch([row])[row]

    yield from made_negatives(choice, fetch)


def _negative_jobs(cleaned: Cleaned, data: DataConfig, seed: int, work: Path) -> list[_Job]:
    if not (data.negatives.cross_task or data.negatives.swapped_instruction):
        return []
    special = {part.task for part in cleaned.rows.parts if not data.tasks[part.task].general}
    counts = {task: len(cleaned.rows.right_rows(task)) for task in special}
    choice = choose_negatives(counts, data.negatives, seed)
    return [
        _Job(
            work / f"negatives_{start:09d}",
            negatives=choice.part(start, min(start + _NEGATIVES_PER_JOB, len(choice))),
        )
        for start in range(0, len(choice), _NEGATIVES_PER_JOB)
    ]


def tokenise(
    tasks: tuple[str, ...],
    cleaned: Cleaned,
    data: DataConfig,
    wording: Wording,
    chat: ChatFormat,
    folder: Path,
    progress: Progress = silent,
) -> None:
    """Leave a sample store of all clean rows in ``folder``, with ``stats.json`` and
    ``rejects.jsonl`` of all that is left out or cut, from reading on.

    Args:
        tasks: all task names, which the store's task ids index into.

    Raises:
        DataFault: the chat template cannot render a row.
    """
    if not made_anew(folder):
        return
    rows = cleaned.rows
    work = folder.with_name(folder.name + ".parts")
    jobs = [_Job(work / f"part_{number:06d}", number) for number in range(len(rows.parts))]
    jobs += _negative_jobs(cleaned, data, wording.seed, work)

    def run(chat: ChatFormat) -> list[TokenStats]:
        return run_jobs(
            _run,
            jobs,
            workers_for(data.workers, len(rows.keep) * _BYTES_PER_ROW),
            f"tokenise ({wording.phase})",
            progress,
            _set_up,
            (tasks, rows, data, wording, chat),
        )

    try:
        try:
            all_stats = run(chat.for_many_rows())
        except TemplateSurprise:
            shutil.rmtree(work, ignore_errors=True)  # nothing there where the first job raised it
            all_stats = run(chat)
        stats = TokenStats()
        for one in all_stats:
            stats.merge(one)
        with scratch_beside(folder) as scratch:
            join_stores(tasks, [job.folder for job in jobs], scratch)
            rejects = [cleaned.rejects_file, *(job.folder / REJECTS_FILE for job in jobs)]
            join_files(rejects, scratch / REJECTS_FILE)
            stats.write(scratch / STATS_FILE)
    except OSError:
        # another host that shares the cache may have finished first, and removed the parts
        if not is_whole(folder):
            raise
    shutil.rmtree(work, ignore_errors=True)


def read_stats(folder: Path) -> TokenStats:
    """What :func:`tokenise` refused and how it worded the rows of a store."""
    return TokenStats.read(folder / STATS_FILE)
