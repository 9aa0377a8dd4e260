"""Evaluation records as they stand in their files: they are read, never cleaned."""

from __future__ import annotations

from dataclasses import replace

from data_modules.cleaning.language import language_of
from data_modules.config import DataConfig, PromptSet, TaskConfig
from data_modules.faults import DataFault, Fault
from data_modules.records import Record, Reject
from data_modules.rejects import too_many
from data_modules.sources.units import read_unit, units_of


def brings(task: TaskConfig, prompt_set: PromptSet) -> bool:
    """Whether a source of the task has rows of its own for a prompt set."""
    return any(source.eval_sets.get(prompt_set) for source in task.sources.values())


def with_rows_of(data: DataConfig, prompt_set: PromptSet) -> DataConfig:
    """The data with the set's own rows as evaluation rows, of the evaluated tasks that bring some."""
    return replace(
        data,
        tasks={
            name: replace(
                task,
                sources={
                    key: replace(source, eval=source.eval_sets.get(prompt_set, ""))
                    for key, source in task.sources.items()
                },
            )
            for name, task in data.tasks.items()
            if task.is_evaluated and brings(task, prompt_set)
        },
    )


def read_set_records(
    data: DataConfig, prompt_set: PromptSet
) -> tuple[dict[str, list[Record]], list[Reject]]:
    """As :func:`read_eval_records`, of the rows that sources bring for a prompt set.

    Raises:
        DataFault: as there; places are ``eval_sets.<prompt set>``.
    """
    try:
        return read_eval_records(with_rows_of(data, prompt_set))
    except DataFault as fault:
        raise DataFault(
            [
                replace(one, where=f"{one.where}_sets.{prompt_set.value}")
                if one.where.endswith(".eval")
                else one
                for one in fault.faults
            ]
        ) from fault


def read_all_eval_records(data: DataConfig) -> list[Record]:
    """Every evaluation record, ordinary ones first, then those of the prompt sets that bring theirs.

    Raises:
        DataFault: as :func:`read_eval_records`.
    """
    found = [read_eval_records(data)[0]]
    found += [read_set_records(data, one)[0] for one in PromptSet]
    return [record for records in found for of_task in records.values() for record in of_task]


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
