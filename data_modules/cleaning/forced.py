"""Rows that stay or go whatever the rules say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from data_modules.config import CleaningConfig
from data_modules.faults import DataFault, Fault


class Forced:
    """The ids of ``cleaning.keep`` and ``cleaning.drop``, ``@FILE`` entries read in.

    Attributes:
        keep, drop: ids as :attr:`~data_modules.records.Record.row_id` has them. What rows are used
            depends on them: they belong into the fingerprint, not the names of the files.

    Raises:
        DataFault: a file cannot be read, or an id is in both lists.
    """

    def __init__(self, cleaning: CleaningConfig) -> None:
        faults: list[Fault] = []
        self.keep = _ids(cleaning.keep, "data.cleaning.keep", faults)
        self.drop = _ids(cleaning.drop, "data.cleaning.drop", faults)
        faults += [
            Fault(
                "data.cleaning.keep",
                f"'{row_id}' is also in data.cleaning.drop",
                "a row is kept or dropped",
                "Take it out of one of the two.",
            )
            for row_id in sorted(self.keep & self.drop)
        ]
        if faults:
            raise DataFault(faults)

    def verdict(self, row_id: str) -> bool | None:
        """True: stays; False: goes; None: the rules decide."""
        if row_id in self.keep:
            return True
        return False if row_id in self.drop else None

    def unmatched(self, matched: Iterable[str]) -> list[str]:
        """Ids that no row had, sorted; ``matched`` are those of rows with a verdict."""
        return sorted((self.keep | self.drop) - set(matched))


def _ids(entries: Iterable[str], where: str, faults: list[Fault]) -> frozenset[str]:
    ids: set[str] = set()
    for entry in entries:
        if not entry.startswith("@"):
            ids.add(entry)
            continue
        try:
            lines = Path(entry[1:]).read_text(encoding="utf-8-sig").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            remedy = "Name a text file with one row id a line, seen from the working directory."
            faults.append(Fault(where, f"'{entry}': {reason}", "@FILE is a readable file", remedy))
            continue
        ids.update(line.strip() for line in lines if line.strip())
    return frozenset(ids)
