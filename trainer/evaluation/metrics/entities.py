"""F1 over extracted items."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from data_modules.cleaning.behaviours import LIST_MARKER, is_json
from trainer.evaluation.metrics.base import Judged

# Not inside numbers (1,000), and not before a blank-less letter (a/b is one item).
_SEPARATOR = re.compile(r"[\n;；、，|]|,(?!\d{3}(?!\d))")
_MARKER = re.compile(rf"^\s*{LIST_MARKER}")
_EDGES = " \t\r.。!！\"'`“”‘’「」『』《》()（）[]【】*_:："
_AND = re.compile(r"^(?:and|or|和|及|以及|与)\s+", re.I)


class EntityF1:
    """Micro-averaged F1 of the items that answers and golds list (as CoNLL counts: 2 tp / (p + g)).

    Items stand on lines of their own, or between commas, semicolons and their Chinese kin; numbering,
    case, width and outer punctuation do not count, order neither, and an item listed twice counts
    twice. "entity: type" is one item, right only as a whole. A JSON answer has the items of its leaves,
    with their keys. A cut answer counts as it stands.
    """

    name = "entity_f1"

    def statistics(self, rows: Sequence[Judged]) -> np.ndarray:
        """Items that both have, of the answer, of the gold: [rows, 3]."""
        result = np.zeros((len(rows), 3))
        for index, row in enumerate(rows):
            answer, gold = Counter(items_of(row.answer)), Counter(items_of(row.gold))
            result[index] = (answer & gold).total(), answer.total(), gold.total()
        return result

    def value(self, sums: np.ndarray, n: np.ndarray) -> np.ndarray:  # noqa: ARG002
        """F1; 1 where neither side lists anything."""
        both, listed = 2 * sums[..., 0], sums[..., 1] + sums[..., 2]
        f1: np.ndarray = np.where(listed > 0, both / np.maximum(listed, 1), 1.0)
        return f1


def items_of(text: str) -> list[str]:
    """The items that a text lists, in plain form."""
    parts = _leaves(json.loads(text)) if is_json(text) else _SEPARATOR.split(text)
    return [item for item in map(_plain, parts) if item]


def _plain(item: str) -> str:
    item = _MARKER.sub("", unicodedata.normalize("NFKC", item)).strip(_EDGES)
    return " ".join(re.sub(r"\s*:\s*", ": ", _AND.sub("", item)).casefold().split()).strip(_EDGES)


def _leaves(value: object) -> Iterator[str]:
    """``key: value`` of every leaf of a JSON value, in order; no recursion: answers may be all brackets."""
    left: list[tuple[str, object]] = [("", value)]
    while left:
        key, one = left.pop()
        if isinstance(one, dict):
            left += [(str(name), inner) for name, inner in reversed(one.items())]
        elif isinstance(one, list):
            left += [(key, inner) for inner in reversed(one)]
        else:
            yield f"{key}: {one}" if key else str(one)
