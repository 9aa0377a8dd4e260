"""Order: how the drawn rows of one epoch are interleaved.

Every task is shuffled by a generator of its own, so that another task never changes the order of its
rows. The rows of a step are a stretch of this order; packing lays them out inside their step only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

Groups = Mapping[str, np.ndarray]
#: The generator that shuffles a task, by the task's name.
RngOf = Callable[[str], np.random.Generator]


def mixed(groups: Groups, rng_of: RngOf) -> np.ndarray:
    """All rows in one uniform shuffle."""
    rows, lots = _with_lots(groups, rng_of)
    # stable: where two lots are equal, no processor may decide
    return rows[np.argsort(lots, kind="stable")]


def grouped(groups: Groups, companions: Groups, block_rows: int, rng_of: RngOf) -> np.ndarray:
    """Blocks of one task each, tasks alternating in cycles of a fresh random order.

    ``companions`` (replay rows) are shuffled and spread evenly.
    """
    if not groups:  # a short last epoch may have room for replay rows only
        return mixed(companions, rng_of)
    rows: list[np.ndarray] = []
    cycles: list[np.ndarray] = []
    lots: list[np.ndarray] = []
    for name in sorted(groups):
        rng = rng_of(name)
        rows.append(rng.permutation(groups[name]))
        blocks = -(-len(groups[name]) // block_rows)
        cycles.append(np.arange(blocks))
        lots.append(rng.random(blocks))
    place = np.empty(sum(map(len, cycles)), np.int32)
    place[np.lexsort((np.concatenate(lots), np.concatenate(cycles)))] = np.arange(len(place))
    starts = np.cumsum([0, *map(len, cycles)])
    block_of_row = np.concatenate(
        [
            place[start + np.arange(len(one)) // block_rows]
            for start, one in zip(starts, rows, strict=False)
        ]
    )
    ordered = np.concatenate(rows)[np.argsort(block_of_row, kind="stable")]
    return spread(ordered, mixed(companions, rng_of))


def sequential(groups: Groups, companions: Groups, rng_of: RngOf) -> np.ndarray:
    """Task after task in the order of ``groups``; companions as in :func:`grouped`."""
    shuffled = mixed(companions, rng_of)
    if not groups:
        return shuffled
    rows = np.concatenate([mixed({name: groups[name]}, rng_of) for name in groups])
    return spread(rows, shuffled)


def easy_to_hard(
    groups: Groups,
    companions: Groups,
    hardness: Callable[[np.ndarray], np.ndarray],
    rng_of: RngOf,
) -> np.ndarray:
    """By ``hardness`` of the rows, low first, ties in random order; companions as in :func:`grouped`.

    Companions keep a general ability up: they are needed from the first step to the last.
    """
    rows, lots = _with_lots(groups, rng_of)
    rows = rows[np.lexsort((lots, hardness(rows)))]
    return spread(rows, mixed(companions, rng_of))


def spread(rows: np.ndarray, others: np.ndarray, first: int = 0) -> np.ndarray:
    """Put ``others`` between ``rows`` from place ``first`` on, evenly, both in their own order."""
    if not len(others):
        return rows
    return np.insert(rows, even_places(len(rows), len(others), first), others)


def even_places(rows: int, others: int, first: int = 0) -> np.ndarray:
    """int64 [others], ascending: before which of ``rows`` places each of ``others`` goes."""
    first = min(first, rows)
    return first + ((np.arange(others) + 0.5) * ((rows - first) / max(1, others))).astype(np.int64)


def _with_lots(groups: Groups, rng_of: RngOf) -> tuple[np.ndarray, np.ndarray]:
    """All rows, and a number drawn for each, by which they are shuffled."""
    names = sorted(groups)
    if not names:
        return np.empty(0, np.int64), np.empty(0)
    return (
        np.concatenate([groups[name] for name in names]),
        np.concatenate([rng_of(name).random(len(groups[name])) for name in names]),
    )
