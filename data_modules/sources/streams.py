"""Text files as numbered lines: compressed or not, whole or a range, never more than a line at once."""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import pyarrow as pa

from data_modules.faults import DataFault, Fault

#: A longer line or row is not read: 64 MiB.
MAX_ROW_BYTES = 64 << 20
COMPRESSIONS = (".gz", ".bz2", ".xz", ".zst")

_SHOWN = 1000  # characters of an overlong line that its reject keeps
_READ = 1 << 20
#: What reading or decompressing a bad file raises.
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, OSError)
_WIDE = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


class Line(NamedTuple):
    """One line with its line end; ``size`` in bytes.

    ``text`` of a line above :data:`MAX_ROW_BYTES` is its beginning only.
    """

    number: int
    text: str
    size: int

    @property
    def is_overlong(self) -> bool:
        return self.size > MAX_ROW_BYTES


def open_bytes(path: Path) -> IO[bytes] | io.BufferedIOBase:
    """Open for reading, decompressed by the file's last extension."""
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return gzip.open(path)
    if suffix == ".bz2":
        return bz2.open(path)
    if suffix == ".xz":
        return lzma.open(path)
    if suffix == ".zst":
        return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))
    return path.open("rb", buffering=_READ)


def lines_of(path: Path, start: int = 0, end: int = -1, first: int = 1) -> Iterator[Line]:
    """Lines of a UTF-8 file, with or without byte order mark.

    Args:
        start, end: byte range that begins and ends at line starts, only for files that are not
            compressed; -1 is the end of the file.
        first: number of the line at ``start``.

    Raises:
        DataFault: the file cannot be read, is damaged or is not UTF-8; names file and line.
    """
    number, position = first - 1, start
    try:
        # Decoded line by line: a text file object decodes ahead and would name the wrong line.
        with open_bytes(path) as file:
            if start:
                file.seek(start)
            while position < end or end < 0:
                raw = file.readline(MAX_ROW_BYTES + 1)
                if not raw:
                    return
                number += 1
                if number == 1:
                    check_encoding(path, raw)
                size = len(raw)
                if size > MAX_ROW_BYTES:
                    size += skip_line(file) if not raw.endswith(b"\n") else 0
                    yield Line(number, raw[: 4 * _SHOWN].decode(errors="replace")[:_SHOWN], size)
                else:
                    yield Line(number, raw.decode("utf-8-sig" if number == 1 else "utf-8"), size)
                position += size
    except UnicodeDecodeError as error:
        raise not_utf8(path, number, error) from error
    except DAMAGE as error:
        raise unreadable(path, number, error) from error


def skip_line(file: IO[bytes] | io.BufferedIOBase) -> int:
    """Read to the end of the line or file without holding it; returns the bytes passed over."""
    skipped = 0
    while piece := file.readline(_READ):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def unreadable(path: Path, number: int, error: Exception) -> DataFault:
    """The fault of a file that could be read up to line ``number`` only."""
    suffix = path.suffix.lower()
    reason = getattr(error, "strerror", None) or str(error)
    if suffix not in COMPRESSIONS or getattr(error, "errno", None):
        return DataFault(
            Fault(
                f"{path}:{number}" if number else str(path),
                f"cannot read it ({reason})",
                "data files must be readable",
                "Correct its permissions, or the disk.",
            )
        )
    return DataFault(
        Fault(
            f"{path}:{number}",
            f"the {suffix} data ends or is damaged after line {number} ({reason})",
            "compressed files must be whole",
            "Copy or compress the file again; nothing after this line can be read.",
        )
    )


def not_utf8(path: Path, number: int, error: UnicodeDecodeError) -> DataFault:
    """The fault of a file with a byte that is not UTF-8 on line ``number``."""
    return DataFault(
        Fault(
            f"{path}:{number}",
            f"byte {error.object[error.start]:#04x} is not UTF-8",
            "data files are UTF-8",
            "Convert the file, for example with iconv -t UTF-8.",
        )
    )


def check_encoding(path: Path, head: bytes) -> None:
    """Refuse a file whose first bytes are those of UTF-16 or UTF-32.

    Raises:
        DataFault: they are.
    """
    if encoding := _wide_encoding(head):
        rule = "data files are UTF-8"
        remedy = f"Convert the file: iconv -f {encoding} -t UTF-8 {path.name} > converted"
        raise DataFault(Fault(f"{path}:1", f"the file is {encoding}", rule, remedy))


def _wide_encoding(head: bytes) -> str:
    for mark, encoding in _WIDE.items():
        if head.startswith(mark):
            return encoding
    # Without a mark: files start with two characters of ASCII, such as {" or a column's name.
    halves = [byte == 0 for byte in head[:4]]
    if halves == [False, True, False, True]:
        return "UTF-16LE"
    return "UTF-16BE" if halves == [True, False, True, False] else ""
