"""Rows that are left out: kept with their reason, counted, and put in words."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from itertools import islice

from data_modules.faults import Fault
from data_modules.records import Record, Reject

_SHOWN = 5

# task -> rule -> rows
RejectCounts = dict[str, dict[str, int]]


def reject_line(reject: Reject) -> str:
    """One line of a rejects file."""
    line = json.dumps(asdict(reject), ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which no file can hold as it is
        line = json.dumps(asdict(reject))
    return line + "\n"


def record_text(record: Record) -> str:
    """A record as the text that a rejects file keeps."""
    turns = [asdict(message) for message in record.messages]
    return json.dumps({"messages": turns}, ensure_ascii=False)


def count_rejects(rejects: Iterable[Reject]) -> RejectCounts:
    """Rejects by task and rule."""
    return add_counts({one.task: {one.rule: 1}} for one in rejects)


def add_counts(counts: Iterable[Mapping[str, Mapping[str, int]]]) -> RejectCounts:
    """The sum of several counts; tasks without any are left out."""
    total: dict[str, Counter[str]] = {}
    for one in counts:
        for task, rules in one.items():
            total.setdefault(task, Counter()).update(rules)
    return {task: dict(rules) for task, rules in total.items() if rules.total()}


def reject_words(counts: Mapping[str, Mapping[str, int]]) -> str:
    """``qa 3 (2 overlong, 1 empty_answer), ...``"""
    return ", ".join(
        f"{task} {sum(rules.values())} "
        f"({', '.join(f'{count} {rule}' for rule, count in sorted(rules.items()))})"
        for task, rules in sorted(counts.items())
    )


def too_many(rejects: Iterable[Reject], bad: int, rows: int, allowed: float) -> list[Fault]:
    """Faults that show the first few of ``bad`` unreadable rows of a file."""
    rule = f"{bad} of {rows} rows are unusable and data.max_reject_ratio is {allowed:g}"
    remedy = "Mend the rows, or raise data.max_reject_ratio to leave them out."
    shown = list(islice(rejects, _SHOWN + 1))
    if any(one.rule == "missing_field" for one in shown):
        fields = f"data.tasks.{shown[0].task}.sources.<source>.fields"
        remedy = f"Say which columns to read in {fields}, such as {{output: answer}}. {remedy}"
    faults = [Fault(one.origin, one.reason, rule, remedy) for one in shown[:_SHOWN]]
    if len(shown) > _SHOWN:
        rest = f"{bad - _SHOWN} more unusable rows"
        faults.append(Fault(shown[_SHOWN].origin, f"and {rest} from here on", rule, remedy))
    return faults
