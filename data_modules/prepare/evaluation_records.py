"""Evaluation records as they stand in their files: they are read, never cleaned."""

from __future__ import annotations

from dataclasses import replace

from data_modules.cleaning.language import language_of
from data_modules.config import DataConfig
from data_modules.faults import DataFault, Fault
from data_modules.records import Record, Reject
from data_modules.rejects import too_many
from data_modules.sources.units import read_unit, units_of


def read_eval_records(data: DataConfig) -> tuple[dict[str, list[Record]], list[Reject]]:
    """Every evaluation record by task, and the unreadable rows.

    Raises:
        DataFault: a source cannot be read, or more than ``data.max_reject_ratio`` of a file's rows
            are unusable.
    """
    tasks = [task for task, settings in data.tasks.items() if settings.is_evaluated]
    records: dict[str, list[Record]] = {task: [] for task in tasks}
    bad_of: dict[tuple[str, str], list[Reject]] = {}
    rows_of: dict[tuple[str, str], int] = {}
    faults: list[Fault] = []
    for unit in units_of(data, tasks, "eval"):
        key = (unit.task, str(unit.path))
        try:
            for item in read_unit(unit, data.tasks[unit.task].sources[unit.source_name]):
                if isinstance(item, Record):
                    records[unit.task].append(replace(item, language=language_of(item.request)))
                elif isinstance(item, Reject):
                    bad_of.setdefault(key, []).append(item)
                rows_of[key] = rows_of.get(key, 0) + (item is not None)
        except DataFault as fault:
            faults += fault.faults
    for key, bad in bad_of.items():
        if len(bad) > data.max_reject_ratio * rows_of[key]:
            faults += too_many(bad, len(bad), rows_of[key], data.max_reject_ratio)
    if faults:
        raise DataFault(faults)
    return records, [reject for bad in bad_of.values() for reject in bad]
