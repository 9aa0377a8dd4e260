"""Task files -> records, with every unusable row counted and kept.

Cleaning rules will join the schema rule here; each reject keeps its rule and reason.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from data_modules.config import DataConfig
from data_modules.faults import DataFault, Fault
from data_modules.records import Record, Reject, read_jsonl

_SHOWN = 5


def discovered_tasks(data: DataConfig) -> list[str]:
    """Names of the ``train/<task>.jsonl`` files under ``data.root``, sorted."""
    return sorted(path.stem for path in Path(data.root).glob("train/*.jsonl"))


def source_path(data: DataConfig, relative: str) -> Path:
    """A task source's path; ``relative`` is relative to ``data.root``."""
    return Path(data.root) / relative


def read_tasks(
    data: DataConfig, tasks: Iterable[str], split: str
) -> tuple[dict[str, list[Record]], list[Reject]]:
    """Read one split ("train" or "eval") of the named tasks.

    Returns:
        Usable records by task, and all rejects.

    Raises:
        DataFault: a file cannot be read, or more than ``data.max_reject_ratio`` of its rows are
            unusable; every such file is listed.
    """
    records: dict[str, list[Record]] = {}
    rejects: list[Reject] = []
    faults: list[Fault] = []
    for task in tasks:
        path = source_path(data, getattr(data.tasks[task].source, split))
        try:
            records[task], bad = read_jsonl(path, task)
        except DataFault as fault:
            faults += fault.faults
            continue
        rejects += bad
        rows = len(records[task]) + len(bad)
        if len(bad) > data.max_reject_ratio * rows:
            faults += _too_many(bad, rows, data.max_reject_ratio)
    if faults:
        raise DataFault(faults)
    return records, rejects


def _too_many(bad: list[Reject], rows: int, allowed: float) -> list[Fault]:
    rule = f"{len(bad)} of {rows} rows are unusable and data.max_reject_ratio is {allowed:g}"
    remedy = "Mend the rows, or raise data.max_reject_ratio to leave them out."
    faults = [Fault(one.origin, one.reason, rule, remedy) for one in bad[:_SHOWN]]
    if len(bad) > _SHOWN:
        rest = f"{len(bad) - _SHOWN} more unusable rows"
        faults.append(Fault(bad[_SHOWN].origin, f"and {rest} from here on", rule, remedy))
    return faults


def count_rejects(rejects: Iterable[Reject]) -> dict[str, dict[str, int]]:
    """Rejects by task and rule."""
    counts: dict[str, dict[str, int]] = {}
    for reject in rejects:
        rules = counts.setdefault(reject.task, {})
        rules[reject.rule] = rules.get(reject.rule, 0) + 1
    return counts


def reject_words(counts: dict[str, dict[str, int]]) -> str:
    """``qa 3 (2 overlong, 1 empty_answer), ...``"""
    return ", ".join(
        f"{task} {sum(rules.values())} "
        f"({', '.join(f'{count} {rule}' for rule, count in sorted(rules.items()))})"
        for task, rules in sorted(counts.items())
    )


def write_rejects(rejects: Iterable[Reject], path: Path) -> None:
    """Write every reject as one JSON line, in one rename."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".tmp{os.getpid()}")
    with scratch.open("w", encoding="utf-8") as file:
        for reject in rejects:
            file.write(json.dumps(asdict(reject), ensure_ascii=False) + "\n")
    scratch.replace(path)
