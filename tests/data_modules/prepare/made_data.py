"""What the tests of preparing share: data with something to clean, and what cleaning left of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_modules.config import (
    BoundaryConfig,
    CleaningConfig,
    DataConfig,
    SourceConfig,
    TaskConfig,
)
from data_modules.mixture import MixtureConfig
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare import clean_unit
from data_modules.prepare.clean_rows import Cleaned, clean_rows
from data_modules.records import Record
from data_modules.sources.units import Unit
from tests.shared_data import CHATML, byte_tokenizer, data_config, write_rows

DUPLICATES = {"exact_duplicates": True, "near_duplicates": 0.8}
N_A = {"instruction": "what", "output": "N/A"}


def words(number: int, count: int = 12) -> str:
    """Text that shares next to nothing with that of any other number."""
    return " ".join(f"w{(number + 1) * 7919 * (place + 3) % 100003:x}" for place in range(count))


def row(number: int, **fields: Any) -> dict[str, Any]:
    """A row like no other."""
    return {"instruction": f"ask {words(number)}", "output": f"say {words(number + 5000)}"} | fields


def write_data(
    root: Path,
    rows: dict[str, list[Any]],
    evaluation: dict[str, list[Any]] | None = None,
    cleaning: CleaningConfig | None = None,
    **settings: Any,
) -> DataConfig:
    """Data settings over one file of rows for every task."""
    tasks: dict[str, TaskConfig] = {}
    for task, of_task in rows.items():
        write_rows(root / f"train/{task}.jsonl", of_task)
        source = SourceConfig(train=f"train/{task}.jsonl")
        if task in (evaluation or {}):
            write_rows(root / f"eval/{task}.jsonl", (evaluation or {})[task])
            source.eval = f"eval/{task}.jsonl"
        tasks[task] = TaskConfig({"main": source}, tag=f"[{task}]", constraint=f"Be {task}.")
    return data_config(root, tasks, cleaning=cleaning or CleaningConfig(), **settings)


def clean(data: DataConfig) -> Cleaned:
    """The clean rows of all tasks."""
    return clean_rows(data, sorted(data.tasks))


def kept_records(cleaned: Cleaned) -> list[Record]:
    """What cleaning left, in order."""
    rows = cleaned.rows
    return [
        record
        for number, part in enumerate(rows.parts)
        for record in part.records(rows.kept(number))
    ]


def kept_origins(cleaned: Cleaned) -> list[str]:
    return [record.origin for record in kept_records(cleaned)]


def lines_of(path: Path) -> list[dict[str, Any]]:
    """Rows of a rejects file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def counted(lines: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    """task -> rule -> lines."""
    found: dict[str, Counter[str]] = {}
    for line in lines:
        found.setdefault(line["task"], Counter())[line["rule"]] += 1
    return {task: dict(rules) for task, rules in found.items()}


def small_pieces(monkeypatch: pytest.MonkeyPatch, unit_bytes: int, part_rows: int) -> None:
    """Cut files and parts small, in this process."""
    monkeypatch.setattr("data_modules.sources.units.UNIT_BYTES", unit_bytes)
    monkeypatch.setattr("data_modules.prepare.clean_unit.PART_ROWS", part_rows)


class Reader:
    """Reads units and notes which; breaks off in the middle of one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.breaks_at: int | None = None
        self.read: list[int] = []
        self._real = clean_unit.read_unit
        monkeypatch.setattr(clean_unit, "read_unit", self)

    def __call__(self, unit: Unit, source: SourceConfig) -> Iterator[Any]:
        self.read.append(unit.first_line)
        for number, item in enumerate(self._real(unit, source)):
            if unit.first_line == self.breaks_at and number == 1:
                raise OSError("the disk is gone")
            yield item


def prepared(
    data: DataConfig, mixtures: dict[str, MixtureConfig] | None = None, **settings: Any
) -> PhaseDataModule:
    """A data module that is prepared and loaded."""
    arguments: dict[str, Any] = {
        "boundary": BoundaryConfig(),
        "mixtures": mixtures or {"mix": MixtureConfig(epochs=1)},
        "tokenizer": byte_tokenizer(CHATML),
        "seed": 0,
        "global_batch_size": 8,
    }
    made = PhaseDataModule(data=data, **(arguments | settings))
    made.prepare()
    made.load()
    return made
