"""Leaks -> rows of the next phase: the request with its right answer, and the leak as the wrong one.

A leak becomes

- a *negative*: the request as it was asked, answered rightly, with the model's own answer as
  ``rejected`` and the task that it showed as ``behaves_like``;
- a *contrast row*: the request with that task's cue, answered rightly, which teaches that the cue does
  not decide. A request that carried a cue when it leaked is its own contrast row.

Negatives of a model's own mistakes follow Welleck et al., arXiv 1908.04319 (sequence-level
unlikelihood); the right answer beside them is what the pilot found to help (``data_modules.negatives``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_modules.balance import apportion
from data_modules.config import TaskConfig
from data_modules.mining_requests import MINED, MiningRequest
from data_modules.mixture import PromptConfig
from data_modules.records import Message, Record
from data_modules.seeding import seed_of
from data_modules.wording import NO_BOUNDARY, worded


@dataclass(frozen=True)
class Leak:
    """An answer that shows task ``shown`` where another was asked for."""

    request: MiningRequest
    shown: str
    answer: str

    @property
    def asked(self) -> str:
        """The task that was asked for."""
        return self.request.record.task

    @property
    def pair(self) -> str:
        """``asked -> shown``."""
        return f"{self.asked} -> {self.shown}"


@dataclass(frozen=True)
class MinedRows:
    """Rows of one task's file, readable as any other; and what they are.

    Attributes:
        negatives: shown task -> rows with a wrong answer beside the right one.
        contrasts: shown task -> rows that carry another task's cue and are answered rightly; those
            that are negatives too are among them.
    """

    rows: list[dict[str, Any]]
    negatives: dict[str, int]
    contrasts: dict[str, int]

    @property
    def ids(self) -> list[str]:
        """Names of the rows, for ``cleaning.keep``."""
        return [row["id"] for row in self.rows]

    def text(self) -> str:
        """JSON lines."""
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in self.rows)


def source_name(phase: str) -> str:
    """Name of the source of the rows mined behind a phase."""
    return f"{MINED}_{phase}"


def choose_leaks(leaks: Iterable[Leak], most: int, most_per_pair: int, seed: int) -> list[Leak]:
    """At most ``most`` leaks, as many of each pair of tasks as far as they go.

    Inside a pair the order is a hash of row and prompt set; other rows come before a second leak of the
    same one. The result depends on no order of ``leaks``.
    """
    of_pair: dict[str, list[Leak]] = {}
    for leak in leaks:
        of_pair.setdefault(leak.pair, []).append(leak)
    sizes = {pair: min(len(some), most_per_pair) for pair, some in sorted(of_pair.items())}
    total = min(most, sum(sizes.values()))
    counts = apportion(total, dict.fromkeys(sizes, 1.0), at_most=sizes) if sizes else {}
    return [
        leak for pair, count in counts.items() for leak in _ordered(of_pair[pair], seed)[:count]
    ]


def _ordered(leaks: Iterable[Leak], seed: int) -> list[Leak]:
    def lot(leak: Leak) -> int:
        record = leak.request.record
        return seed_of(seed, MINED, record.task, record.row_id, leak.request.prompt_set.value)

    turns: dict[str, int] = {}
    placed: list[tuple[int, Leak]] = []
    for leak in sorted(leaks, key=lot):
        turn = turns.get(leak.request.record.row_id, 0)
        turns[leak.request.record.row_id] = turn + 1
        placed.append((turn, leak))
    return [leak for _, leak in sorted(placed, key=lambda one: one[0])]


def mined_rows(
    leaks: Sequence[Leak], phase: str, tasks: Mapping[str, TaskConfig], seed: int
) -> dict[str, MinedRows]:
    """The rows of every task with leaks, in the order of ``leaks``.

    Args:
        phase: behind which they were found; part of the rows' ids.
        tasks: all tasks of the data, for their cues.
        seed: of the run; draws one cue of several.
    """
    found: dict[str, MinedRows] = {}
    for leak in leaks:
        mined = found.setdefault(leak.asked, MinedRows([], {}, {}))
        mined.rows.append(_negative(leak, phase))
        mined.negatives[leak.shown] = mined.negatives.get(leak.shown, 0) + 1
        if not leak.request.cue_of:
            contrast = _contrast(leak, phase, tasks, seed)
            if contrast is None or contrast["id"] in mined.ids:
                continue
            mined.rows.append(contrast)
        mined.contrasts[leak.shown] = mined.contrasts.get(leak.shown, 0) + 1
    return found


def _negative(leak: Leak, phase: str) -> dict[str, Any]:
    request = leak.request
    # One "#": behind it begins what a right and a wrong answer to one request do not share.
    name = f"{request.record.row_id}#{source_name(phase)}_{request.prompt_set.value}"
    wrong = {"rejected": leak.answer, "behaves_like": leak.shown}
    return _row(name, request.record, request.messages) | wrong


def _contrast(
    leak: Leak, phase: str, tasks: Mapping[str, TaskConfig], seed: int
) -> dict[str, Any] | None:
    """The request with the cue of the task shown; None where that has none of its own."""
    record = leak.request.record
    both = {name: tasks[name] for name in (record.task, leak.shown)}
    cued = worded(record, both, NO_BOUNDARY, PromptConfig(cue_share=1.0), MINED, seed)
    if not cued.cue_of:
        return None
    name = f"{record.row_id}#{source_name(phase)}_cue_of_{leak.shown}"
    return _row(name, record, cued.messages[:-1])


def _row(name: str, record: Record, messages: Sequence[Message]) -> dict[str, Any]:
    """A row whose request is ``messages`` and whose answer is the record's."""
    row: dict[str, Any] = {"id": name, "mined_from": record.origin}
    head = None if record.instruction is None else f"{record.instruction}\n"
    (*_, request) = messages
    if head and len(messages) == 1 and request.content.startswith(head):
        row |= {
            "instruction": record.instruction,
            "input": request.content.removeprefix(head),
            "output": record.answer,
        }
    else:
        turns = [*messages, Message("assistant", record.answer)]
        row["messages"] = [{"role": one.role, "content": one.content} for one in turns]
    if record.quality is not None:
        row["quality"] = round(record.quality, 4)
    return row
