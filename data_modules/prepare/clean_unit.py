"""One unit of one source, read and cleaned: the work of one worker process."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from data_modules.cleaning.forced import Forced
from data_modules.cleaning.language import language_of
from data_modules.cleaning.quality import quality_of
from data_modules.cleaning.rules import row_rules
from data_modules.cleaning.sketches import save_signatures, signatures
from data_modules.config import CleaningConfig, TaskConfig
from data_modules.prepare.clean_store import write_part
from data_modules.records import Record, Reject
from data_modules.rejects import record_text, reject_line
from data_modules.sealing import made_anew, scratch_beside
from data_modules.sources.units import Unit, read_unit
from data_modules.unification import unified

# A part is what one process holds at a time; the bounds are part of no result.
PART_ROWS = 20_000
PART_CHARS = 16_000_000

REJECTS_FILE = "rejects.jsonl"
STATS_FILE = "stats.json"


@dataclass(frozen=True)
class CleanJob:
    """One unit, and everything that decides what becomes of its rows."""

    unit: Unit
    tasks: Mapping[str, TaskConfig]
    cleaning: CleaningConfig
    folder: Path


@dataclass
class UnitStats:
    """Rows of one unit: read = not_selected + unreadable + rejects + kept.

    Attributes:
        forced: id of a row that a list names -> whether it is kept.
    """

    task: str
    source: str
    path: str
    read: int = 0
    not_selected: int = 0
    unreadable: dict[str, int] = field(default_factory=dict)
    rejects: dict[str, int] = field(default_factory=dict)
    kept: int = 0
    negatives: int = 0
    unified: int = 0
    forced: dict[str, bool] = field(default_factory=dict)


def clean_unit(job: CleanJob) -> UnitStats:
    """Read, unify and judge every row; a finished unit is not done again.

    Leaves in ``job.folder``: ``stats.json``, ``rejects.jsonl`` and the parts ``part_000`` ..., each with
    its rows and the arrays that rows are compared by.
    """
    if not made_anew(job.folder):
        return UnitStats(**json.loads((job.folder / STATS_FILE).read_text(encoding="utf-8")))
    with scratch_beside(job.folder) as scratch:
        stats = _Cleaner(job, scratch).run()
        (scratch / STATS_FILE).write_text(json.dumps(asdict(stats)), encoding="utf-8")
    return stats


class _Cleaner:
    def __init__(self, job: CleanJob, folder: Path) -> None:
        unit = job.unit
        self.job, self.folder = job, folder
        self.task = job.tasks[unit.task]
        self.rules = row_rules(job.cleaning, job.tasks)
        self.forced = Forced(job.cleaning)
        self.stats = UnitStats(unit.task, unit.source_name, str(unit.path))
        self.rows: list[Record] = []
        self.chars = self.parts = 0

    def run(self) -> UnitStats:
        unit, stats = self.job.unit, self.stats
        unreadable: Counter[str] = Counter()
        rejects: Counter[str] = Counter()
        with (self.folder / REJECTS_FILE).open("w", encoding="utf-8") as file:
            for item in read_unit(unit, self.task.sources[unit.source_name]):
                stats.read += 1
                if item is None:
                    stats.not_selected += 1
                elif isinstance(item, Reject):
                    unreadable[item.rule] += 1
                    file.write(reject_line(item))
                else:
                    reject = self._judge(item)
                    if reject is not None:
                        rejects[reject.rule] += 1
                        file.write(reject_line(reject))
        self._flush()
        stats.unreadable, stats.rejects = dict(unreadable), dict(rejects)
        return stats

    def _judge(self, record: Record) -> Reject | None:
        """Keep the record, unified, or say why not."""
        verdict = self.forced.verdict(record.row_id)
        if verdict is not None:
            self.stats.forced[record.row_id] = verdict
        if verdict is False:
            return self._reject(record, "forced_drop", "named in data.cleaning.drop")
        record = replace(record, language=language_of(record.request), quality=quality_of(record))
        if verdict is None:
            for rule in self.rules:
                reason = rule.check(record, self.task)
                if reason is not None:
                    return self._reject(record, rule.name, reason)
        if self.job.cleaning.unify:
            before, record = record, unified(record, self.task)
            self.stats.unified += record is not before
        self._keep(record)
        return None

    def _reject(self, record: Record, rule: str, reason: str) -> Reject:
        return Reject(record.task, record.origin, rule, reason, record_text(record), record.row_id)

    def _keep(self, record: Record) -> None:
        self.stats.kept += 1
        self.stats.negatives += record.negative + (record.rejected is not None)
        self.rows.append(record)
        self.chars += sum(len(message.content) for message in record.messages)
        if len(self.rows) >= PART_ROWS or self.chars >= PART_CHARS:
            self._flush()

    def _flush(self) -> None:
        if not self.rows:
            return
        part = self.folder / f"part_{self.parts:03d}"
        write_part(part, self.job.unit.task, self.rows)
        near = self.job.cleaning.near_duplicates is not None
        save_signatures(part, signatures(self.rows, near))
        self.rows, self.chars = [], 0
        self.parts += 1
