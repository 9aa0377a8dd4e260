"""Units of reading: pieces of sources that workers read on their own, some 8 MB each.

What the units of a source are depends on its files only, never on how many workers there are.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.config import DataConfig, SourceConfig
from data_modules.faults import DataFault, Fault
from data_modules.records import Record, Reject
from data_modules.sources.csv_rows import csv_rows
from data_modules.sources.files import (
    HUB,
    Kind,
    kind_of,
    label_of,
    saved_split,
    source_files,
    unreadable_source,
)
from data_modules.sources.formats import FIELDS, RowFault, id_of, record_of
from data_modules.sources.json_rows import RawRow, is_jsonl, json_rows, jsonl_rows
from data_modules.sources.selection import selection_of
from data_modules.sources.streams import COMPRESSIONS, skip_line
from data_modules.sources.tables import (
    arrow_rows,
    hub_rows,
    parquet_parts,
    parquet_rows,
    saved_parts,
    saved_rows,
)

#: Bytes after which a JSONL file is cut at the next line end.
UNIT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Unit:
    """A piece of one source of one task.

    Attributes:
        path: the file, the saved folder, or the name of a hub data set.
        split: "train" or "eval".
        start, end: bytes of JSONL, row groups of Parquet, rows of a saved folder; ``end`` -1 is the
            end of the file.
        first_line: number of the first line or row, from 1.
        label: what origins call the file.
    """

    task: str
    source_name: str
    path: str
    kind: Kind
    split: str
    start: int = 0
    end: int = -1
    first_line: int = 1
    label: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether there is no other unit of the same file."""
        return self.start == 0 and self.end == -1


def units_of(data: DataConfig, tasks: Iterable[str], split: str) -> list[Unit]:
    """Units of one split ("train" or "eval") of the named tasks.

    Returns:
        In the order of the tasks as given, their sources as declared, files sorted, position.

    Raises:
        DataFault: faults of all sources together: missing, empty and unreadable files, wrong
            ``fields`` and ``where``.
    """
    units: list[Unit] = []
    faults: list[Fault] = []
    for task in tasks:
        for name, source in data.tasks[task].sources.items():
            key = source_key(task, name)
            faults += _unknown_fields(source, key)
            try:
                selection_of(source.where, f"{key}.where")
                units += _source_units(data, task, name, source, split)
            except DataFault as fault:
                faults += fault.faults
    if faults:
        raise DataFault(faults)
    return units


def source_key(task: str, name: str) -> str:
    """The dotted key of a source's settings."""
    return f"data.tasks.{task}.sources.{name}"


def source_pattern(source: SourceConfig, split: str) -> tuple[str, str]:
    """Where a source has its rows of "train" or "eval", and the name of that split in data sets."""
    assert split in ("train", "eval")
    if split == "train":
        return source.train, source.split
    return source.eval, source.eval_split


def _unknown_fields(source: SourceConfig, key: str) -> list[Fault]:
    remedy = "It maps our field name to the row's own column, such as {instruction: question}."
    return [
        Fault(f"{key}.fields.{field}", repr(field), f"fields are {', '.join(FIELDS)}", remedy)
        for field in source.fields
        if field not in FIELDS
    ]


def _source_units(
    data: DataConfig, task: str, name: str, source: SourceConfig, split: str
) -> list[Unit]:
    pattern, split_name = source_pattern(source, split)
    if not pattern:
        return []
    where = f"{source_key(task, name)}.{split}"
    if pattern.startswith(HUB):
        hub = pattern.removeprefix(HUB)
        label = "/".join(part for part in (pattern, source.subset, split_name) if part)
        return [Unit(task, name, hub, Kind.hub, split, label=label)]
    units: list[Unit] = []
    for found in source_files(data, where, pattern):
        kind = kind_of(found)
        assert kind, "source_files returns nothing else"
        path = saved_split(found, split_name, where) if kind is Kind.saved else found
        pieces = _pieces(path, kind, where)
        if not pieces:
            remedy = "Fill it or leave it out."
            raise DataFault(Fault(where, f"{path} is empty", "a source has rows", remedy))
        for piece in pieces:
            units.append(
                Unit(task, name, str(path), split=split, label=label_of(data, path), **piece)
            )
    return units


def _pieces(path: Path, kind: Kind, where: str) -> list[dict[str, Any]]:
    """What differs between the units of one file."""
    if kind is Kind.saved:
        return [
            {"kind": kind, "start": start, "end": end, "first_line": start + 1}
            for start, end in saved_parts(path)
        ]
    try:
        with path.open("rb") as file:
            if not file.read(1):
                return []
    except OSError as error:
        raise unreadable_source(where, path, error) from error
    if kind is Kind.json and is_jsonl(path):
        kind = Kind.jsonl
    if kind is Kind.jsonl and path.suffix.lower() not in COMPRESSIONS:
        return [
            {"kind": kind, "start": start, "end": end, "first_line": first}
            for start, end, first in line_ranges(path, UNIT_BYTES)
        ]
    if kind is Kind.parquet:
        return [
            {"kind": kind, "start": start, "end": end, "first_line": first}
            for start, end, first in parquet_parts(path)
        ]
    return [{"kind": kind}]


def line_ranges(path: Path, size: int) -> list[tuple[int, int, int]]:
    """Cut a file that is not empty at the first line end at or after every ``size`` bytes.

    Returns:
        (first byte, end byte, number of the first line); the last end is -1.
    """
    ranges: list[tuple[int, int, int]] = []
    start, first, whole = 0, 1, path.stat().st_size
    # Read, not memory-mapped: mapped pages would count as memory of the process.
    with path.open("rb") as file:
        while True:
            piece = file.read(size)
            lines = piece.count(b"\n")
            end = start + len(piece)
            if not piece.endswith(b"\n"):
                end += skip_line(file)
                lines += 1
            if end >= whole:
                ranges.append((start, -1, first))
                return ranges
            ranges.append((start, end, first))
            start, first = end, first + lines


def read_unit(unit: Unit, source: SourceConfig) -> Iterator[Record | Reject | None]:
    """Rows of one unit in the order of the file, read as they are asked for.

    Yields:
        A record; a reject for a row that cannot be used; None for a row that ``where`` leaves out.

    Raises:
        DataFault: the file cannot be read on; names file and line.
    """
    selection = selection_of(source.where, f"{source_key(unit.task, unit.source_name)}.where")
    is_empty = True
    for raw in _raw_rows(unit, source):
        is_empty = False
        origin = f"{unit.label}:{raw.number}"
        try:
            if isinstance(raw.value, RowFault):
                raise raw.value
            if selection and not selection(raw.value):
                yield None
                continue
            yield record_of(raw.value, unit.task, unit.source_name, source, origin)
        except RowFault as fault:
            yield _reject(unit, source, raw, origin, fault)
    if is_empty and unit.is_whole:
        where = f"{source_key(unit.task, unit.source_name)}.{unit.split}"
        remedy = "Fill it or leave it out."
        raise DataFault(Fault(where, f"{unit.path} has no rows", "a source has rows", remedy))


def _raw_rows(unit: Unit, source: SourceConfig) -> Iterator[RawRow]:
    path = Path(unit.path)
    if unit.kind is Kind.jsonl:
        return jsonl_rows(path, unit.start, unit.end, unit.first_line)
    if unit.kind is Kind.json:
        return json_rows(path)
    if unit.kind is Kind.csv:
        return csv_rows(path, ",")
    if unit.kind is Kind.tsv:
        return csv_rows(path, "\t")
    if unit.kind is Kind.parquet:
        return parquet_rows(path, unit.start, unit.end, unit.first_line)
    if unit.kind is Kind.arrow:
        return arrow_rows(path)
    if unit.kind is Kind.saved:
        return saved_rows(path, unit.start, unit.end)
    where = f"{source_key(unit.task, unit.source_name)}.{unit.split}"
    return hub_rows(unit.path, source.subset, source_pattern(source, unit.split)[1], where)


def _written(value: Any) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError) as error:
        return f"({type(value).__name__} that cannot be written as JSON: {error})"


def _reject(unit: Unit, source: SourceConfig, raw: RawRow, origin: str, fault: RowFault) -> Reject:
    text = raw.text
    if text is None:
        text = "" if isinstance(raw.value, RowFault) else _written(raw.value)
    try:
        row_id = id_of(raw.value, source.fields) or origin
    except RowFault:
        row_id = origin
    return Reject(unit.task, origin, fault.rule, fault.reason, text, row_id)
