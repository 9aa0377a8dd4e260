"""CSV and TSV files -> rows with the numbers of the lines that they start on.

Read line by line by ourselves, for the reason given in ``json_rows``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from data_modules.faults import DataFault, Fault
from data_modules.sources.formats import RowFault
from data_modules.sources.json_rows import RawRow
from data_modules.sources.streams import MAX_ROW_BYTES, lines_of

_RULE = "a CSV file has a header and one cell per column; cells with line breaks are quoted"


class _Lines:
    """Text lines for ``csv``; keeps those of the row that is being read."""

    def __init__(self, path: Path) -> None:
        self._path, self._lines = path, lines_of(path)
        self.taken: list[str] = []
        self.number = 0
        self._size = 0

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number = line.number
        self._size += line.size
        if self._size > MAX_ROW_BYTES:
            first = self.number - len(self.taken)
            limit = f"a row may have {MAX_ROW_BYTES >> 20} MiB"
            remedy = "Look for a quote that is not closed, or split the row."
            raise DataFault(Fault(f"{self._path}:{first}", "the row does not end", limit, remedy))
        self.taken.append(line.text)
        return line.text

    def begin_row(self) -> None:
        self.taken.clear()
        self._size = 0


def csv_rows(path: Path, delimiter: str) -> Iterator[RawRow]:
    """Rows as objects of text; the header names the columns. Blank lines are passed over.

    Raises:
        DataFault: no header, a column twice, a quote that is never closed, or a file that cannot
            be read; names file and line.
    """
    csv.field_size_limit(MAX_ROW_BYTES)  # of the process; the default refuses cells above 128 KiB
    lines = _Lines(path)
    # strict: otherwise an open quote swallows the rest of the file without a word
    cells = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        lines.begin_row()
        first = lines.number + 1
        try:
            row = next(cells)
        except StopIteration:
            return
        except csv.Error as error:
            if header is None or "unexpected end" in str(error):
                remedy = "Mend the row, or write JSONL, where a bad row spoils no other."
                raise DataFault(Fault(f"{path}:{first}", str(error), _RULE, remedy)) from None
            problem = RowFault("malformed_csv", f"malformed CSV: {error}")
            yield RawRow(first, problem, _text(lines))
            continue
        if not row:
            continue
        if header is None:
            header = _checked_header(row, path, first)
        elif len(row) != len(header):
            reason = f"the row has {len(row)} cells, the header {len(header)} ({header})"
            yield RawRow(first, RowFault("cell_count", reason), _text(lines))
        else:
            yield RawRow(first, dict(zip(header, row, strict=True)), _text(lines))


def _text(lines: _Lines) -> str:
    return "".join(lines.taken).rstrip("\r\n")


def _checked_header(header: list[str], path: Path, line: int) -> list[str]:
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        seen = f"column {', '.join(repr(name) for name in twice)} stands in the header twice"
        remedy = "Rename or remove one of them."
        raise DataFault(Fault(f"{path}:{line}", seen, "column names are unique", remedy))
    return header
