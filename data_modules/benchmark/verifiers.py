"""Is this answer right? Exact, and decided by programs alone."""

from __future__ import annotations

from collections.abc import Mapping

from data_modules.benchmark.detectors import behaviour_of
from data_modules.benchmark.machine import same_program
from data_modules.benchmark.payload import parse_payload
from data_modules.benchmark.spec import ALL_TASKS


def _json_pairs(text: str) -> dict[str, str] | None:
    """Keys and values of a `{ k : v , .. }` answer; None when a key comes twice."""
    symbols = text.split()
    keys, values = symbols[1::4], symbols[3::4]
    return dict(zip(keys, values, strict=True)) if len(set(keys)) == len(keys) else None


def is_correct(task: str, row: Mapping[str, str], answer: str) -> bool:
    """Whether `answer` is right for `row` under `task`; white space does not count.

    Exact equality with the row's output, except where other answers mean the same: `code` is
    executed in three random environments seeded by the row's input (so operand order is free),
    `json` is compared as keys and values.

    Args:
        task: one of `ALL_TASKS`.
        row: a row with at least `input` and `output`.
        answer: any string.

    Raises:
        ValueError: for an unknown task.
    """
    if task not in ALL_TASKS:
        raise ValueError(f"no benchmark task {task!r}; defined: {', '.join(ALL_TASKS)}")
    gold, seen = " ".join(row["output"].split()), " ".join(answer.split())
    if seen == gold:
        return True
    if task not in ("code", "json") or behaviour_of(seen) != task:
        return False
    if task == "json":
        pairs = _json_pairs(seen)
        return pairs is not None and pairs == _json_pairs(gold)
    payload, _ = parse_payload(row["input"])
    return same_program(seen, gold, payload.letters, row["input"])
