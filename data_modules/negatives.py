"""Negatives: wrong answers that training pushes away from, and which of their tokens are pushed.

They come from the files (``rejected`` beside an answer, or ``negative: true``) and from a builder that
makes them of the user's own rows:

- cross-task: a row's request, answered with the answer of another task's row;
- swapped instruction: another task's instruction over a row's input, with the row's answer.

What the evidence supports: negatives are **off by default**. In the pilot on the synthetic benchmark,
unlikelihood on cross-task negatives gave no clear gain (crosstalk on conflicting prompts 44 % -> 33 %,
less than the 4-16 points between seeds; unchanged on paraphrases), while positive rows that carry
another task's cue (``PromptConfig.cue_share``) took it to 4 %. In the literature swapped instructions
with unlikelihood halve off-target translations (arXiv 2403.14399). The v0.3 preset turns them on.

The loss is in ``trainer.loss``; how many negatives a phase draws, and from when, is
``data_modules.mixture.NegativesConfig``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

import numpy as np

from data_modules.config import NegativeRowsConfig, Supervise
from data_modules.records import Message, Record
from data_modules.seeding import generator

Fetch = Callable[[str, int], Record]

_TRIES = 16  # rows of the other task that are looked at before a negative is given up
_CHUNK = 1 << 16  # rows that partners are drawn for at once


class Kind(IntEnum):
    """How a negative was made."""

    cross_task = 0
    swapped_instruction = 1


@dataclass(frozen=True)
class Choice:
    """Which rows M negatives are made of; grouped by task and kind, rows ascending.

    Attributes:
        counts: task -> its rows; the arrays hold places in ``tasks``.
        kinds: int8 [M], of :class:`Kind`.
        task_ids, other_ids: int16 [M], the row's task, and the other one: that of the answer
            (cross-task) or of the instruction (swapped).
        rows, other_rows: int32 [M], places among the task's rows. ``other_rows`` is where the search
            for a fitting row begins.
    """

    counts: Mapping[str, int]
    kinds: np.ndarray
    task_ids: np.ndarray
    rows: np.ndarray
    other_ids: np.ndarray
    other_rows: np.ndarray

    def __len__(self) -> int:
        return len(self.kinds)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names that the ids index into."""
        return tuple(self.counts)

    def part(self, start: int, stop: int) -> Choice:
        """Some of them, for one of several workers."""
        at = slice(start, stop)
        return Choice(
            self.counts,
            self.kinds[at],
            self.task_ids[at],
            self.rows[at],
            self.other_ids[at],
            self.other_rows[at],
        )


def choose_negatives(counts: Mapping[str, int], config: NegativeRowsConfig, seed: int) -> Choice:
    """Choose what negatives are made of, from the numbers of rows alone.

    A task of n rows gives ``round(share * n)`` negatives of each kind, from different rows as long as
    there are any, paired with every other task alike (by chance, each as likely). One row meets the
    same other task at most once, so a share above the number of other tasks counts as that number.

    Seeded by names. A task that is added becomes the partner of some rows of the others, which it must
    for partners to be drawn alike; all other pairs stay as they were.

    Args:
        counts: specialised task -> its rows with right answers; tasks without any are left out.
    """
    counts = {task: counts[task] for task in sorted(counts) if counts[task]}
    shares = {
        Kind.cross_task: config.cross_task,
        Kind.swapped_instruction: config.swapped_instruction,
    }
    pieces = [
        _choose(kind, task, counts, round(shares[kind] * counts[task]), seed)
        for task in counts
        for kind in Kind
    ]
    joined = [np.concatenate(column) for column in zip(*pieces, strict=True)] if pieces else None
    kinds, task_ids, rows, other_ids, other_rows = joined or [np.empty(0, np.int64)] * 5
    return Choice(
        counts,
        kinds.astype(np.int8),
        task_ids.astype(np.int16),
        rows.astype(np.int32),
        other_ids.astype(np.int16),
        other_rows.astype(np.int32),
    )


def _choose(
    kind: Kind, task: str, counts: Mapping[str, int], total: int, seed: int
) -> tuple[np.ndarray, ...]:
    """The columns of :class:`Choice` for one task and kind."""
    names = list(counts)
    others = np.array([place for place, name in enumerate(names) if name != task], np.int16)
    size = counts[task]
    total = min(total, size * len(others))
    order = generator(seed, "negatives", kind.name, task).permutation(size).astype(np.int32)
    # One stream for every pair of tasks: the partner of a row is the task whose number is highest
    # there, so a task more changes only the rows that it wins.
    streams = [generator(seed, "negatives", kind.name, task, names[other]) for other in others]
    sizes = np.array([counts[names[other]] for other in others], np.uint64)
    columns: list[tuple[np.ndarray, ...]] = []
    for start in range(0, min(total, size), _CHUNK):
        width = min(_CHUNK, min(total, size) - start)
        drawn = np.stack([s.integers(1 << 64, size=width, dtype=np.uint64) for s in streams])
        # The high half ranks the tasks, the low half draws the task's row.
        ranked = np.argsort(~(drawn >> np.uint64(32)), axis=0, kind="stable")
        for turn in range(-(-total // size)):  # of the row's partners, best first
            left = min(width, total - turn * size - start)
            if left <= 0:
                break
            winner = ranked[turn, :left]
            low = drawn[winner, np.arange(left)] & np.uint64(0xFFFFFFFF)
            row = (low * sizes[winner]) >> np.uint64(32)
            columns.append((order[start : start + left], others[winner], row.astype(np.int32)))
    if not columns:
        return tuple(np.empty(0, np.int32) for _ in range(5))
    rows, other_ids, other_rows = (np.concatenate(column) for column in zip(*columns, strict=True))
    ascending = np.lexsort((other_ids, rows))
    return (
        np.full(total, kind, np.int8),
        np.full(total, names.index(task), np.int16),
        rows[ascending],
        other_ids[ascending],
        other_rows[ascending],
    )


def made_negatives(choice: Choice, fetch: Fetch) -> Iterator[Record]:
    """Make the chosen negatives, in order.

    Fewer than chosen come where none can be made: the row keeps no input apart from its instruction
    (swapped only), or the rows of the other task that are looked at do not fit: they have the same
    answer, or (swapped only) no instruction of their own.

    Args:
        fetch: ``(task, place)`` -> the Record at this place among the task's rows with right answers.
    """
    names, sizes = choice.tasks, tuple(choice.counts.values())
    for kind, task, row, other, other_row in zip(
        choice.kinds.tolist(),
        choice.task_ids.tolist(),
        choice.rows.tolist(),
        choice.other_ids.tolist(),
        choice.other_rows.tolist(),
        strict=True,
    ):
        record = fetch(names[task], row)
        make = _cross_task if kind == Kind.cross_task else _swapped_instruction
        if make is _swapped_instruction and _input_of(record) is None:
            continue
        for step in range(min(_TRIES, sizes[other])):
            made = make(record, fetch(names[other], (other_row + step) % sizes[other]))
            if made is not None:
                yield made
                break


def _cross_task(record: Record, other: Record) -> Record | None:
    if _same(record.answer, other.answer):
        return None
    return replace(
        record,
        messages=_answered(record.messages, other.answer),
        row_id=f"{record.row_id}#as_{other.task}",
        negative=True,
        behaves_like=other.task,
        rejected=None,
        quality=None,
        contrast=record.answer,
    )


def _swapped_instruction(record: Record, other: Record) -> Record | None:
    """The negative is the other task's: its instruction and, if it has one, its system message.

    Its own answer, to another input, shows that task's manner, hence is the contrast.
    """
    text = _input_of(record)
    assert text is not None
    if other.instruction is None or not _one_turn(other) or _same(record.answer, other.answer):
        return None
    if _same(other.instruction, record.instruction or ""):
        return None
    request = Message("user", f"{other.instruction}\n{text}")
    messages = tuple(request if one.role == "user" else one for one in other.messages)
    return replace(
        other,
        messages=_answered(messages, record.answer),
        origin=record.origin,
        row_id=f"{record.row_id}#from_{record.task}",
        negative=True,
        behaves_like=record.task,
        rejected=None,
        quality=None,
        contrast=other.answer,
    )


def _input_of(record: Record) -> str | None:
    """The input that stands below the row's instruction."""
    if record.instruction is None or not _one_turn(record):
        return None
    head = record.instruction + "\n"
    text = record.request[len(head) :]
    return text if record.request.startswith(head) and text.strip() else None


def _one_turn(record: Record) -> bool:
    return sum(message.role == "user" for message in record.messages) == 1


def _answered(messages: Sequence[Message], answer: str) -> tuple[Message, ...]:
    return (*messages[:-1], Message("assistant", answer))


def _same(one: str, other: str) -> bool:
    """Equal up to white space."""
    return one.split() == other.split()


def explicit_negatives(record: Record) -> list[Record]:
    """The negatives that a row of a file brings.

    A row with ``rejected`` gives a second Record, the same request with the wrong answer; a row that
    is a negative is its own only one; any other row brings none, nor does a ``rejected`` that equals
    the right answer.
    """
    if record.negative:
        return [record]
    if record.rejected is None or _same(record.rejected, record.answer):
        return []
    wrong = replace(
        record,
        messages=_answered(record.messages, record.rejected),
        row_id=f"{record.row_id}#rejected",
        negative=True,
        rejected=None,
        quality=None,
        contrast=record.answer,
    )
    return [wrong]


def negative_mask(
    right_ids: Sequence[int] | np.ndarray | None,
    wrong_ids: Sequence[int] | np.ndarray,
    supervise: Supervise,
) -> np.ndarray:
    """Which tokens of a wrong answer are pushed away from.

    Args:
        right_ids: tokens of the answer it is compared with (``Record.contrast``), in the same
            rendering; None if there is none.
        wrong_ids: tokens of the wrong answer, with the token that ends it; at least one.

    Returns:
        bool [len(wrong_ids)]. With ``first_difference`` the first token that differs, or the first of
        all where there is nothing to compare with; what both share before it is not wrong, and what
        comes behind it follows from it. With ``answer`` all tokens. None at all if the wrong answer
        is the right one or breaks off inside it: there is nothing to push away from.
    """
    wrong = np.asarray(wrong_ids)
    mask = np.zeros(len(wrong), dtype=bool)
    right = np.empty(0, wrong.dtype) if right_ids is None else np.asarray(right_ids)
    shared = min(len(right), len(wrong))
    different = np.flatnonzero(right[:shared] != wrong[:shared])
    first = int(different[0]) if len(different) else shared
    if first == len(wrong):
        return mask
    if supervise is Supervise.answer:
        mask[:] = True
    else:
        mask[first] = True
    return mask
