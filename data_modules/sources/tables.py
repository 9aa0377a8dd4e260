"""Parquet, Arrow and hub data sets -> rows numbered from 1, a batch at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_modules.faults import DataFault, Fault
from data_modules.sources.formats import RowFault
from data_modules.sources.json_rows import RawRow

_BATCH = 512  # rows decoded at once
_TARGET = 8 << 20  # bytes of one part


def parquet_parts(path: Path) -> list[tuple[int, int, int]]:
    """Row groups together until they have some 8 MB: (first group, end group, first row from 1).

    A file without rows has no parts.

    Raises:
        DataFault: the file is no Parquet.
    """
    parts: list[tuple[int, int, int]] = []
    start, row, first, size = 0, 1, 1, 0
    try:
        meta = pq.ParquetFile(path).metadata
        for group in range(meta.num_row_groups):
            size += meta.row_group(group).total_byte_size
            row += meta.row_group(group).num_rows
            if size >= _TARGET or group == meta.num_row_groups - 1:
                parts.append((start, group + 1, first))
                start, first, size = group + 1, row, 0
        return parts if meta.num_rows else []
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, 0, "Parquet", error) from error


def parquet_rows(path: Path, start: int, end: int, first: int) -> Iterator[RawRow]:
    """Rows of the row groups from ``start`` to before ``end``; the first has number ``first``."""
    number = first
    try:
        # Memory-mapped, so that a row group of gigabytes is not read at once.
        with pq.ParquetFile(path, memory_map=True) as file:
            for batch in file.iter_batches(_BATCH, row_groups=range(start, end)):
                yield from _rows_of(batch, number)
                number += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, number, "Parquet", error) from error


def arrow_rows(path: Path) -> Iterator[RawRow]:
    """Rows of an Arrow file, of the stream format (as ``datasets`` writes) or the file format."""
    number = 1
    try:
        with pa.memory_map(str(path)) as source:
            for batch in _arrow_batches(source):
                for start in range(0, batch.num_rows, _BATCH):
                    yield from _rows_of(batch.slice(start, _BATCH), number + start)
                number += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _broken(path, number, "Arrow", error) from error


def _arrow_batches(source: pa.NativeFile) -> Iterator[pa.RecordBatch]:
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    if not is_file:
        yield from pa.ipc.open_stream(source)
        return
    reader = pa.ipc.open_file(source)
    for index in range(reader.num_record_batches):
        yield reader.get_batch(index)


def _saved(folder: Path) -> Any:
    import datasets  # seconds to import, and few sources need it

    try:
        return datasets.load_from_disk(str(folder)).with_format("arrow")
    except Exception as error:  # any: it parses files of several kinds
        raise _broken(folder, 0, "a data set saved by save_to_disk", error) from error


def saved_parts(folder: Path) -> list[tuple[int, int]]:
    """Ranges of rows, from 0, of some 8 MB of a folder that ``save_to_disk`` wrote."""
    saved = _saved(folder)
    rows = len(saved)
    size = sum(path.stat().st_size for path in folder.glob("*.arrow"))
    step = max(1, rows * _TARGET // max(1, size))
    return [(start, min(rows, start + step)) for start in range(0, rows, step)]


def saved_rows(folder: Path, start: int, end: int) -> Iterator[RawRow]:
    """Rows of a range of a folder that ``save_to_disk`` wrote."""
    number = start + 1
    try:
        for table in _saved(folder).select(range(start, end)).iter(_BATCH):
            yield from _rows_of(table, number)
            number += table.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _broken(folder, number, "Arrow", error) from error


def hub_name(pattern: str) -> tuple[str, str | None]:
    """``owner/name`` and, after an @, the revision that is asked for."""
    name, _, revision = pattern.partition("@")
    # a folder of data files stands for a data set, @ in its path or not
    return (pattern, None) if Path(pattern).exists() else (name, revision or None)


def hub_rows(name: str, subset: str | None, split: str, where: str) -> Iterator[RawRow]:
    """Rows of a hub data set, streamed: ``owner/name``, ``owner/name@revision`` or a local folder.

    Raises:
        DataFault: it cannot be had.
    """
    import datasets  # seconds to import, and few sources need it

    repository, revision = hub_name(name)
    number = 0
    try:
        rows = datasets.load_dataset(
            repository, subset, split=split, streaming=True, revision=revision
        )
        for number, row in enumerate(rows, start=1):
            yield RawRow(number, row)
    except Exception as error:  # any: network, scripts, formats and splits all have their own
        seen = f"hub:{name} cannot be read after row {number} ({type(error).__name__}: {error})"
        rule = f"a hub source needs subset '{subset}' and split '{split}' of that data set"
        offline = " HF_HUB_OFFLINE is set." if os.environ.get("HF_HUB_OFFLINE") else ""
        remedy = (
            f"Check name, subset, split and network, or download it and name its files.{offline}"
        )
        raise DataFault(Fault(where, seen, rule, remedy)) from error


def _rows_of(batch: pa.RecordBatch | pa.Table, first: int) -> Iterator[RawRow]:
    try:
        values: Iterable[Any] = batch.to_pylist()
    except Exception:  # one bad value (text that is not UTF-8) must not take its neighbours along
        values = (_row_of(batch, index) for index in range(batch.num_rows))
    for number, value in enumerate(values, start=first):
        yield RawRow(number, value)


def _row_of(batch: pa.RecordBatch | pa.Table, index: int) -> Any:
    try:
        return batch.slice(index, 1).to_pylist()[0]
    except UnicodeDecodeError as error:
        return RowFault("not_utf8", f"byte {error.object[error.start]:#04x} is not UTF-8")
    except Exception as error:  # whatever conversion of a value to Python can raise
        return RowFault("unreadable_value", f"{type(error).__name__}: {error}")


def _broken(path: Path, number: int, kind: str, error: Exception) -> DataFault:
    return DataFault(
        Fault(
            f"{path}:{number}" if number else str(path),
            f"it is damaged or not {kind} ({error})",
            "tables must be whole",
            "Write or copy the file again.",
        )
    )
