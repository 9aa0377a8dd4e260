"""What the tests of sources share: reading one source, and the same rows in every format."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from data_modules.config import DataConfig, SourceConfig, TaskConfig
from data_modules.records import Record, Reject
from data_modules.sources import read_unit, units_of
from tests.shared_data import data_config

GOOD = {"instruction": "a", "output": "b"}
LINE = json.dumps(GOOD).encode() + b"\n"


def config(root: Path, pattern: str, **settings: Any) -> DataConfig:
    """Task "qa" with one source "main"."""
    source = SourceConfig(train=pattern, **settings)
    return data_config(root, {"qa": TaskConfig(sources={"main": source})})


def read(root: Path, pattern: str, **settings: Any) -> list[Record | Reject | None]:
    """All rows of one source, in order."""
    data = config(root, pattern, **settings)
    source = data.tasks["qa"].sources["main"]
    return [row for unit in units_of(data, ["qa"], "train") for row in read_unit(unit, source)]


def read_records(root: Path, pattern: str, **settings: Any) -> list[Record]:
    """All rows of one source, every one of which must be a record."""
    rows = read(root, pattern, **settings)
    assert [row for row in rows if not isinstance(row, Record)] == []
    return [row for row in rows if isinstance(row, Record)]


def read_file(root: Path, name: str, content: bytes, **settings: Any) -> list[Any]:
    """Rows of a file with the given bytes."""
    (root / name).write_bytes(content)
    return read(root, name, **settings)


def bare(records: Sequence[Record]) -> list[Record]:
    """Records without what differs from file to file."""
    return [replace(record, origin="", instruction=None) for record in records]


def conversations(count: int, multi: bool = False) -> list[dict[str, Any]]:
    """Rows of every kind of text: quotes, line breaks, commas, Chinese, emoji; some with extras."""
    rows: list[dict[str, Any]] = []
    for index in range(count):
        turns = [
            ("user", f'问题 {index}: "why",\nand\thow? 🙂'),
            ("assistant", f"答案, {index}\n\n'x'"),
        ]
        if multi and index % 3 == 0:
            turns = [("system", "简短."), *turns, ("user", "再来"), ("assistant", f"好 {index}")]
        extras: dict[str, Any] = {"id": f"row-{index}"}
        if index % 5 == 0:
            extras |= {"negative": True, "behaves_like": "code"}
        elif index % 5 == 1:
            extras |= {"rejected": f"wrong {index}", "quality": 0.25}
        rows.append({"turns": turns} | extras)
    return rows


def _with_extras(made: dict[str, Any], row: dict[str, Any]) -> dict[str, Any]:
    return made | {key: value for key, value in row.items() if key != "turns"}


def as_messages(row: dict[str, Any]) -> dict[str, Any]:
    turns = [{"role": role, "content": text} for role, text in row["turns"]]
    return _with_extras({"messages": turns}, row)


def as_sharegpt(row: dict[str, Any]) -> dict[str, Any]:
    names = {"user": "human", "assistant": "gpt", "system": "system"}
    turns = [{"from": names[role], "value": text} for role, text in row["turns"]]
    return _with_extras({"conversations": turns}, row)


def as_completion(row: dict[str, Any]) -> dict[str, Any]:
    (_, prompt), (_, answer) = row["turns"]
    return _with_extras({"prompt": prompt, "completion": answer}, row)


def as_alpaca(row: dict[str, Any]) -> dict[str, Any]:
    (_, prompt), (_, answer) = row["turns"]
    instruction, given = prompt.split("\n", 1)
    return _with_extras({"instruction": instruction, "input": given, "output": answer}, row)


SINGLE: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
    "alpaca": as_alpaca,
    "completion": as_completion,
    "messages": as_messages,
    "sharegpt": as_sharegpt,
}
