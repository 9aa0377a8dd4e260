"""Clean rows compared with each other and with the evaluation rows: which of them go."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from data_modules.cleaning.duplicates import CONTAMINATION, Finding, find_duplicates
from data_modules.cleaning.forced import Forced
from data_modules.cleaning.sketches import compared_texts, load_signatures, signatures
from data_modules.config import DataConfig
from data_modules.prepare.clean_store import CleanRows, Part
from data_modules.prepare.evaluation_records import read_all_eval_records
from data_modules.records import Record, Reject
from data_modules.rejects import record_text

_BLOCK = 1_000


def compare_rows(
    data: DataConfig, folder: Path, parts: Sequence[Part]
) -> Iterator[tuple[int, Reject]]:
    """Rows that repeat an earlier row, or an evaluation row: their global number and the reject.

    Rows that ``cleaning.keep`` names stay.
    """
    cleaning = data.cleaning
    near = cleaning.near_duplicates is not None
    if not (cleaning.exact_duplicates or near or cleaning.contamination) or not parts:
        return
    everything = np.broadcast_to(np.True_, sum(part.rows for part in parts))
    rows = CleanRows(folder, tuple(parts), everything)
    evaluation: list[Record] = []
    if cleaning.contamination:
        evaluation = read_all_eval_records(data)
    tasks = {task: number for number, task in enumerate(dict.fromkeys(p.task for p in parts))}
    findings = find_duplicates(
        np.repeat([tasks[part.task] for part in parts], [part.rows for part in parts]),
        [load_signatures(part.folder) for part in parts],
        cleaning,
        lambda row: compared_texts(rows.fetch([row])[row]),
        [signatures(evaluation, near)] if evaluation else [],
        lambda row: compared_texts(evaluation[row]),
    )
    keep = Forced(cleaning).keep
    rest = iter(findings)
    while block := list(islice(rest, _BLOCK)):
        records = rows.fetch({row for one in block for row in _rows_of(one)})
        for one in block:
            record = records[one.row]
            if record.row_id not in keep:
                other = evaluation if one.rule == CONTAMINATION else records
                yield one.row, _reject(record, one, other[one.other])


def _rows_of(finding: Finding) -> tuple[int, ...]:
    return (finding.row,) if finding.rule == CONTAMINATION else (finding.row, finding.other)


def _reject(record: Record, finding: Finding, other: Record) -> Reject:
    reason = f"{finding.reason}: {other.origin}"
    return Reject(
        record.task, record.origin, finding.rule, reason, record_text(record), record.row_id
    )
