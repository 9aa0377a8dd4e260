"""The universal payload: one kind of input for all tasks.

A payload is a short list of cells `k_7` (a letter holding a digit) and a queried letter. Letters
are distinct and so are digits. Each payload has ten different right answers, one per task: only the
instruction decides which is asked for, so a model that mixes tasks up shows it.

Cells are single symbols. With letter and digit as two symbols a model of this size (about a million
parameters) did not learn the letter -> digit look-up in 1,500 steps; with cells it takes a few
hundred.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from data_modules.benchmark.streams import Stream

LETTERS: tuple[str, ...] = tuple("abcdefghijklmnopqrstuvwxyz")
CAPITALS: tuple[str, ...] = tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ")
DIGITS: tuple[str, ...] = tuple("0123456789")

#: Stands between the cells and the queried letters.
QUERY_MARK = "@"

#: One payload in this many belongs to evaluation.
_EVAL_SHARE = 4


@dataclass(frozen=True)
class Payload:
    """Cells and queried letters.

    Attributes:
        letters: distinct letters, one per cell.
        digits: distinct digits 0..9, one per cell.
        queries: letters asked about, each one of `letters`. Tasks use one; the general look-up
            skill several.
    """

    letters: tuple[str, ...]
    digits: tuple[int, ...]
    queries: tuple[str, ...]

    @property
    def focus(self) -> int:
        """Index of the first queried letter."""
        return self.letters.index(self.queries[0])

    @property
    def cells(self) -> str:
        """The cells as text, such as `b_7 k_0 m_4`."""
        return " ".join(f"{a}_{d}" for a, d in zip(self.letters, self.digits, strict=True))

    def text(self, cue: str | None = None) -> str:
        """A row's input: cells, mark, queried letters and, when given, a cue as the last symbol."""
        parts = [self.cells, QUERY_MARK, *self.queries]
        return " ".join([*parts, cue] if cue else parts)

    @property
    def for_eval(self) -> bool:
        """Whether this payload belongs to the evaluation sets.

        Decided by a hash of the cells, so that training and evaluation share no payload whatever
        the number of rows asked for, and without any stream looking at another.
        """
        return hashlib.sha256(self.cells.encode()).digest()[0] % _EVAL_SHARE == 0


def draw_payload(stream: Stream, min_cells: int, max_cells: int, *, for_eval: bool) -> Payload:
    """Draw a payload with one queried letter; its size is uniform over min_cells..max_cells.

    Tasks differ in answer length all the same: with five cells an answer has 1 to 21 symbols, so
    token, sample and task normalisation of the loss differ visibly.
    """
    while True:
        size = min_cells + stream.below(max_cells - min_cells + 1)
        letters = tuple(stream.sample(LETTERS, size))
        digits = tuple(int(d) for d in stream.sample(DIGITS, size))
        payload = Payload(letters, digits, (stream.choice(letters),))
        if payload.for_eval == for_eval:
            return payload


def parse_payload(text: str) -> tuple[Payload, str | None]:
    """Read a row's input back: the payload and the cue (None without one).

    Raises:
        ValueError: when `text` is no payload.
    """
    cells, mark, rest = text.partition(f" {QUERY_MARK} ")
    symbols = rest.split()
    cue = symbols.pop() if symbols and symbols[-1] not in LETTERS else None
    try:
        pairs = [cell.split("_") for cell in cells.split()]
        letters = tuple(letter for letter, _ in pairs)
        digits = tuple(int(digit) for _, digit in pairs)
    except ValueError:
        letters, digits = (), ()
    if not mark or not letters or not symbols or not set(symbols) <= set(letters):
        raise ValueError(
            f"not a benchmark payload: {text!r}; expected cells, {QUERY_MARK!r}, queried letters "
            "and at most one cue"
        )
    return Payload(letters, digits, tuple(symbols)), cue
