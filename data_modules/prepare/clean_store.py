"""Clean rows on disk: Arrow parts that are mapped, never loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa

from data_modules.records import Message, Record
from data_modules.samples import damaged

_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("origin", pa.string()),
        ("source", pa.string()),
        ("messages", pa.string()),  # JSON [[role, content], ...]
        ("instruction", pa.string()),
        ("negative", pa.bool_()),
        ("behaves_like", pa.string()),
        ("rejected", pa.string()),
        ("quality", pa.float32()),
        ("language", pa.string()),
    ]
)
_FILE = "rows.arrow"


def write_part(folder: Path, task: str, records: Sequence[Record]) -> None:
    """Write rows of one task as one part."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = {
        name: [getattr(record, name) for record in records]
        for name in _SCHEMA.names
        if name != "messages"
    }
    columns["messages"] = [
        json.dumps([[one.role, one.content] for one in record.messages], ensure_ascii=False)
        for record in records
    ]
    table = pa.table(columns, schema=_SCHEMA.with_metadata({"task": task}))
    with pa.OSFile(str(folder / _FILE), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)


@dataclass(frozen=True)
class Part:
    """Rows of one task in one Arrow file; pickles as its path."""

    folder: Path
    task: str
    rows: int

    @classmethod
    def open(cls, folder: Path) -> Part:
        """Read a part's description."""
        table = _table(folder)
        return cls(folder, (table.schema.metadata or {})[b"task"].decode(), table.num_rows)

    def records(self, rows: np.ndarray | None = None) -> Iterator[Record]:
        """All records, or those of some row numbers, in the order given."""
        table = _table(self.folder)
        if rows is not None:
            table = table.take(pa.array(rows))
        columns = [table.column(name).to_pylist() for name in _SCHEMA.names]
        for values in zip(*columns, strict=True):
            fields = dict(zip(_SCHEMA.names, values, strict=True))
            turns = json.loads(fields.pop("messages"))
            messages = tuple(Message(role, content) for role, content in turns)
            yield Record(task=self.task, messages=messages, **fields)

    def row_ids(self) -> list[str]:
        """The ``row_id`` of every row."""
        ids: list[str] = _table(self.folder).column("row_id").to_pylist()
        return ids

    def origins(self) -> list[str]:
        """The ``origin`` of every row."""
        origins: list[str] = _table(self.folder).column("origin").to_pylist()
        return origins

    def negative(self) -> np.ndarray:
        """bool [rows]: rows whose answer is wrong."""
        column = _table(self.folder).column("negative")
        return np.asarray(column.to_numpy(), dtype=bool)


def _table(folder: Path) -> pa.Table:
    try:
        file = (folder / _FILE).stat()
        return _mapped(folder / _FILE, file.st_ino, file.st_mtime_ns)
    except (pa.ArrowException, OSError) as error:
        raise damaged(folder, f"{_FILE} cannot be read ({error})") from error


# Few: pages of open maps count as memory of this process. A file that was made again is another one.
@lru_cache(maxsize=32)
def _mapped(path: Path, _inode: int, _changed: int) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(str(path))).read_all()


@dataclass(frozen=True)
class CleanRows:
    """All clean training rows of a run: parts in order, and which of their rows stay.

    Attributes:
        keep: bool [rows of all parts], False for what the comparison of rows left out.
    """

    folder: Path
    parts: tuple[Part, ...]
    keep: np.ndarray
    _cache: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def starts(self) -> np.ndarray:
        """int64 [parts + 1]: number of the first row of each part."""
        return np.concatenate([[0], np.cumsum([part.rows for part in self.parts])]).astype(np.int64)

    def kept(self, number: int) -> np.ndarray:
        """int64: row numbers, inside part ``number``, that stay."""
        return np.flatnonzero(self.keep[self.starts[number] : self.starts[number + 1]])

    def right_rows(self, task: str) -> np.ndarray:
        """int64: global numbers of the task's rows that stay and whose answer is right."""
        if task not in self._cache:
            pieces = [np.empty(0, np.int64)]
            for number, part in enumerate(self.parts):
                if part.task == task:
                    kept = self.kept(number)
                    pieces.append(self.starts[number] + kept[~part.negative()[kept]])
            self._cache[task] = np.concatenate(pieces)
        return self._cache[task]

    def fetch(self, rows: Iterable[int]) -> dict[int, Record]:
        """Records by global number."""
        wanted = np.unique(np.fromiter(rows, dtype=np.int64))
        owner = np.searchsorted(self.starts, wanted, side="right") - 1
        found: dict[int, Record] = {}
        for number in np.unique(owner):
            mine = wanted[owner == number]
            local = mine - self.starts[number]
            found |= zip(mine.tolist(), self.parts[int(number)].records(local), strict=True)
        return found
