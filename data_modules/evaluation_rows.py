"""Evaluation rows: prompts and gold answers of every task that has some."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from data_modules.chat import ChatFormat
from data_modules.cleaning.language import language_of
from data_modules.config import BoundaryConfig, DataConfig
from data_modules.faults import DataFault, Fault
from data_modules.mixture import PromptConfig
from data_modules.prepare.clean_rows import too_many
from data_modules.prepare.tokeniser import Tokeniser, Wording
from data_modules.records import Record, Reject
from data_modules.sources.units import read_unit, units_of


@dataclass(frozen=True)
class EvalRow:
    """One evaluation row: the prompt's and the whole conversation's tokens, and the gold answer."""

    task: str
    prompt_ids: list[int]
    input_ids: list[int]
    supervised: np.ndarray
    answer: str
    origin: str


def read_eval_records(data: DataConfig) -> tuple[dict[str, list[Record]], list[Reject]]:
    """Every evaluation record by task, as it stands in its file: evaluation data is not cleaned.

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


def read_eval_rows(
    data: DataConfig, boundary: BoundaryConfig, chat: ChatFormat, limit: int | None
) -> tuple[dict[str, list[EvalRow]], list[Reject]]:
    """Tokenised evaluation rows.

    The first ``limit`` that fit of each task (None takes all); a row longer than ``max_seq_len`` is
    refused. Prompts carry the boundary texts, and neither cues nor paraphrases.
    """
    records, rejects = read_eval_records(data)
    tokeniser = Tokeniser(data, Wording("", boundary, PromptConfig(), 0), chat)
    result: dict[str, list[EvalRow]] = {}
    for task, of_task in records.items():
        words = [tokeniser.worded(record) for record in of_task]
        rows: list[EvalRow] = []
        for record, one, (ids, mask) in zip(
            of_task, words, tokeniser.encode(of_task, words), strict=True
        ):
            if len(ids) > data.max_seq_len:
                reason = f"{len(ids)} tokens, data.max_seq_len is {data.max_seq_len}"
                rejects.append(Reject(task, record.origin, "overlong", reason, ""))
                continue
            prompt = chat.prompt(one.messages[:-1])
            rows.append(EvalRow(task, prompt, ids, mask, record.answer, record.origin))
        result[task] = list(islice(rows, limit))
    return result, rejects
