"""From a sample of the store back to its row: which file and line a person has to look at."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from data_modules.prepare.clean_store import CleanRows
from data_modules.samples import key_of


class Wanted(NamedTuple):
    """A sample as the store knows its row; a wrong answer may share its key with a right one."""

    row_key: int
    negative: bool


class RowName(NamedTuple):
    """What a person knows a row by.

    Attributes:
        row_id: the row's own ``id``, else its origin; of a negative that was made of a row, with what
            was done to it behind a ``#``.
        origin: ``file:line`` of the row, or of the row that it was made of.
    """

    row_id: str
    origin: str


def find_rows(
    rows: CleanRows, wanted: Iterable[Wanted], tasks: Sequence[str]
) -> dict[Wanted, RowName]:
    """The names of samples; reads ids of clean rows until it has all of them.

    Of rows that nothing in the store tells apart, the first is named.

    Args:
        tasks: all tasks; negatives are made of pairs of them.
    """
    missing = set(wanted)
    found: dict[Wanted, RowName] = {}
    # A row may have been made into many negatives, so those are looked for only if a name is missing.
    for names in (_own_name, _names_of_negatives):
        for number, part in enumerate(rows.parts):
            if not missing:
                return found
            ids, origins, negative = part.row_ids(), part.origins(), part.negative()
            for place in rows.kept(number).tolist():
                for task, name, wrong in names(part.task, ids[place], bool(negative[place]), tasks):
                    key = Wanted(key_of(task, name), wrong)
                    if key in missing:
                        missing.remove(key)
                        found[key] = RowName(name, origins[place])
    return found


def _own_name(
    task: str, row_id: str, negative: bool, _: Sequence[str]
) -> Iterator[tuple[str, str, bool]]:
    yield task, row_id, negative


def _names_of_negatives(
    task: str, row_id: str, negative: bool, tasks: Sequence[str]
) -> Iterator[tuple[str, str, bool]]:
    """Task and id of every negative that may have been made of a row; see ``data_modules.negatives``."""
    if negative:
        return
    yield task, f"{row_id}#rejected", True
    for other in tasks:
        yield task, f"{row_id}#as_{other}", True
        yield other, f"{row_id}#from_{task}", True
