"""JSON and JSONL files -> rows with their line numbers.

Read by ourselves: a reader that infers a schema from the file, such as that of ``datasets``, can
name neither the line of a bad row nor go on after it.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from data_modules.faults import DataFault, Fault
from data_modules.sources.formats import RowFault
from data_modules.sources.streams import (
    DAMAGE,
    MAX_ROW_BYTES,
    check_encoding,
    lines_of,
    not_utf8,
    open_bytes,
    unreadable,
)

_CHUNK = 1 << 20
_MIB = 1 << 20
_PEEKED = 4096
_BLANK = " \t\r\n"


class RawRow(NamedTuple):
    """What a file holds at one place.

    Attributes:
        number: line, or for tables number of the row, from 1.
        value: the row, or why it could not be read.
        text: the row as it stands in the file, if it is text there.
    """

    number: int
    value: Any | RowFault
    text: str | None = None


class _StrictDecoder:
    """JSON without what Python allows beyond it: repeated keys, NaN and infinities."""

    def __init__(self) -> None:
        self._problems: list[RowFault] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object, parse_constant=self._constant
        )

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) < len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            self._problems.append(RowFault("duplicate_key", f"key {twice!r} appears twice"))
        return made

    def _constant(self, name: str) -> None:
        self._problems.append(RowFault("malformed_json", f"malformed JSON: {name} is no number"))

    def decode(self, text: str, start: int) -> tuple[Any | RowFault, int]:
        """One value from ``start`` on and where it ends; JSONDecodeError if none is complete."""
        self._problems.clear()
        value, end = self._decoder.raw_decode(text, start)
        return (self._problems[0] if self._problems else value), end


def jsonl_rows(path: Path, start: int, end: int, first: int) -> Iterator[RawRow]:
    """Rows of the lines of a byte range; see :func:`lines_of`. Blank lines are passed over."""
    decoder = _StrictDecoder()
    for line in lines_of(path, start, end, first):
        text = line.text.rstrip("\r\n")
        if line.is_overlong:
            yield RawRow(line.number, _overlong(line.size), text + "…")
        elif text.strip():
            yield RawRow(line.number, _parsed(text, decoder), text)


def _overlong(size: int) -> RowFault:
    limit = MAX_ROW_BYTES // _MIB
    return RowFault("overlong_line", f"the line has {size / _MIB:.1f} MiB, the limit is {limit}")


def _parsed(text: str, decoder: _StrictDecoder) -> Any | RowFault:
    if "\0" in text:
        reason = f"the line holds a NUL byte at column {text.index(chr(0)) + 1}"
        return RowFault("nul_byte", reason)
    start = len(text) - len(text.lstrip(_BLANK))
    try:
        value, end = decoder.decode(text, start)
        if rest := text[end:].lstrip(_BLANK):
            raise json.JSONDecodeError("Extra data", text, len(text) - len(rest))
    except json.JSONDecodeError as error:
        reason = f"malformed JSON: {error.msg} at column {error.colno}"
        return RowFault("malformed_json", reason)
    except (ValueError, RecursionError) as error:  # a number of 5000 digits, 5000 brackets
        return RowFault("malformed_json", f"malformed JSON: {error}")
    return value


def is_jsonl(path: Path) -> bool:
    """Whether a ``.json`` file has one object a line, as many do; looks at its first two lines."""
    with suppress(*DAMAGE), open_bytes(path) as file:  # damage is told where rows are read
        head = file.read(_PEEKED).removeprefix(codecs.BOM_UTF8)
        if not head.lstrip().startswith(b"{"):
            return False  # an array may well be one line of the file's size: not read for nothing
    lines = (line for line in lines_of(path) if line.text.strip())
    first, second = next(lines, None), next(lines, None)
    if first is None or second is None or first.is_overlong:
        return False
    return isinstance(_parsed(first.text, _StrictDecoder()), dict)


def json_rows(path: Path) -> Iterator[RawRow]:
    """Rows of an array, or of the only array that an object has (``{"data": [...]}``).

    Read in pieces: no more than a row is held.

    Raises:
        DataFault: the file is damaged, holds no array or no JSON; names file and line.
    """
    yield from _Document(path).rows()


class _Document:
    """A JSON text that is read as it is parsed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pieces = self._read()
        self._text, self._place, self._line = "", 0, 1
        self._decoder = _StrictDecoder()

    def _read(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder("utf-8-sig")()
        line = 1
        try:
            with open_bytes(self._path) as file:
                while raw := file.read(_CHUNK):
                    if line == 1:
                        check_encoding(self._path, raw)
                    text = decoder.decode(raw)
                    line += text.count("\n")
                    yield text
                yield decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            line += error.object[: error.start].count(b"\n")
            raise not_utf8(self._path, line, error) from error
        except DAMAGE as error:
            raise unreadable(self._path, self._line, error) from error

    def _more(self) -> bool:
        """Read on; what is parsed already is let go."""
        piece = next(self._pieces, None)
        if piece is None:
            return False
        self._text, self._place = self._text[self._place :] + piece, 0
        return True

    def _double(self) -> bool:
        """Read on until twice as much waits to be parsed: a long row is not parsed too often."""
        wanted, grown = 2 * (len(self._text) - self._place), False
        while len(self._text) - self._place < wanted and self._more():
            grown = True
        return grown

    def _move(self, end: int) -> None:
        self._line += self._text.count("\n", self._place, end)
        self._place = end

    def _next(self) -> str:
        """The next character that is no white space, not taken; empty at the end."""
        while True:
            while self._place < len(self._text):
                character = self._text[self._place]
                if character not in _BLANK:
                    return character
                self._move(self._place + 1)
            if not self._more():
                return ""

    def _take(self, allowed: str, expected: str) -> str:
        found = self._next()
        if not found or found not in allowed:
            raise self._fault(f"{expected} is missing here")
        self._move(self._place + 1)
        return found

    def _value(self) -> tuple[Any | RowFault, str]:
        """The next value and its text."""
        self._next()
        while True:
            try:
                value, end = self._decoder.decode(self._text, self._place)
                # a number may go on in the next piece
                if end < len(self._text) or not self._more():
                    text = self._text[self._place : end]
                    self._move(end)
                    return value, text
            except json.JSONDecodeError as error:
                problem = error.msg.removesuffix(" starting at")
                line = self._line + self._text.count("\n", self._place, error.pos)
                # not complete yet or not JSON: only more text can tell
                if len(self._text) - self._place > MAX_ROW_BYTES or not self._double():
                    raise self._fault(f"malformed JSON: {problem}", line) from None
            except (ValueError, RecursionError) as error:
                raise self._fault(f"malformed JSON: {error}") from None

    def rows(self) -> Iterator[RawRow]:
        opening = self._take("[{", "'[' or '{'")
        if opening == "[":
            yield from self._array()
        else:
            lists: list[str] = []
            yield from self._members(lists)
            if len(lists) != 1:
                held = f"lists under {lists}" if lists else "an object without a list"
                raise self._fault(f"the file holds {held}")
        if self._next():
            raise self._fault("there is more text after the end of the value")

    def _array(self) -> Iterator[RawRow]:
        if self._next() == "]":
            self._take("]", "")
            return
        while True:
            self._next()
            line = self._line
            value, text = self._value()
            yield RawRow(line, value, text)
            if self._take(",]", "',' or ']'") == "]":
                return

    def _members(self, lists: list[str]) -> Iterator[RawRow]:
        """Rows of the first list of an object; ``lists`` gets the keys of all."""
        if self._next() == "}":
            self._take("}", "")
            return
        while True:
            if self._next() != '"':
                raise self._fault("a key is missing here")
            key, _ = self._value()
            self._take(":", "':'")
            if self._next() == "[":
                lists.append(str(key))
            if self._next() == "[" and len(lists) == 1:
                self._take("[", "")
                yield from self._array()
            else:
                self._value()
            if self._take(",}", "',' or '}'") == "}":
                return

    def _fault(self, seen: str, line: int | None = None) -> DataFault:
        return DataFault(
            Fault(
                f"{self._path}:{line or self._line}",
                seen,
                "a .json file is one array of rows, an object with one such array, or JSONL",
                "Mend the file, or write one row a line (JSONL), where a bad row spoils no other.",
            )
        )
