"""Order: how the drawn rows of one epoch are interleaved."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np


def mixed(groups: Mapping[str, np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """All rows in one uniform shuffle."""
    return rng.permutation(np.concatenate([groups[name] for name in sorted(groups)]))


def grouped(
    groups: Mapping[str, np.ndarray],
    companions: np.ndarray,
    block_rows: int,
    rng: np.random.Generator,
) -> np.ndarray:
    """Blocks of one task each, tasks alternating in cycles of a fresh random order.

    ``companions`` (replay rows) are spread evenly over the blocks and shuffled inside them.
    """
    queues: dict[str, list[np.ndarray]] = {}
    for name in sorted(groups):
        rows = rng.permutation(groups[name])
        cuts = np.arange(block_rows, len(rows), block_rows)
        queues[name] = np.split(rows, cuts) if len(rows) else []
    blocks: list[np.ndarray] = []
    while any(queues.values()):
        names = [name for name in queues if queues[name]]
        for index in rng.permutation(len(names)):
            blocks.append(queues[names[index]].pop(0))
    return _with_companions(blocks, companions, rng)


def sequential(
    groups: Mapping[str, np.ndarray], companions: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Task after task in the order of ``groups``, companions spread evenly."""
    blocks = [rng.permutation(rows) for rows in groups.values() if len(rows)]
    return _with_companions(blocks, companions, rng)


def _with_companions(
    blocks: list[np.ndarray], companions: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    companions = rng.permutation(companions)
    if not blocks:  # a short last epoch may have room for replay rows only
        return companions
    ends = np.cumsum([len(block) for block in blocks])
    # Cumulative rounding: block b ends with its proportional part of the companions used up.
    cuts = np.round(ends / ends[-1] * len(companions)).astype(int)[:-1]
    parts = np.split(companions, cuts)
    return np.concatenate(
        [
            rng.permutation(np.concatenate([block, part]))
            for block, part in zip(blocks, parts, strict=True)
        ]
    )
