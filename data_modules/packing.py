"""Packing: which rank computes which rows of a step in which micro-step.

The loss of a step does not depend on the layout (``trainer.objective``), so the layout is free to
balance work: rows are dealt longest first to the least filled micro-batch. Every process computes
the layout of all ranks from the plan alone; nothing is communicated.
"""

from __future__ import annotations

import heapq
import math

import numpy as np

# layout[micro_step][rank] = int64 positions into the step's rows; may be empty
Layout = list[list[np.ndarray]]


def lay_out(
    lengths: np.ndarray,
    dp_world_size: int,
    micro_batch_size: int,
    max_seq_len: int,
    packing: bool,
) -> Layout:
    """Place the rows of one step.

    Args:
        lengths: int [rows], tokens of each row; none above ``max_seq_len``.
        micro_batch_size: unpacked, the rows of a micro-batch; packed, its token budget in units of
            ``max_seq_len``. Either way a micro-batch never exceeds
            ``micro_batch_size * max_seq_len`` tokens.

    Returns:
        The same number of micro-steps for every rank; each row appears exactly once.
    """
    order = np.argsort(-lengths, kind="stable")
    if not packing:
        return _by_rows(order, dp_world_size, micro_batch_size)
    return _by_tokens(order, lengths, dp_world_size, micro_batch_size * max_seq_len)


def _by_rows(order: np.ndarray, dp_world_size: int, micro_batch_size: int) -> Layout:
    # Neighbours in length share a micro-batch, which keeps padding small.
    per_micro_step = dp_world_size * micro_batch_size
    layout: Layout = []
    for start in range(0, len(order), per_micro_step):
        rows = order[start : start + per_micro_step]
        layout.append([rows[rank::dp_world_size] for rank in range(dp_world_size)])
    return layout


def _by_tokens(order: np.ndarray, lengths: np.ndarray, dp_world_size: int, budget: int) -> Layout:
    assert lengths.max() <= budget, "samples are cut or dropped at max_seq_len"
    micro_steps = math.ceil(int(lengths.sum()) / (budget * dp_world_size))
    while True:
        bins = _longest_first(order, lengths, micro_steps * dp_world_size, budget)
        if bins is not None:
            break
        micro_steps += 1
    # Bins of like size meet in one micro-step, so that ranks wait little for each other.
    bins.sort(key=lambda rows: -int(lengths[rows].sum()))
    return [bins[start : start + dp_world_size] for start in range(0, len(bins), dp_world_size)]


def _longest_first(
    order: np.ndarray, lengths: np.ndarray, count: int, budget: int
) -> list[np.ndarray] | None:
    """Deal rows to the least filled of ``count`` bins; None if one does not fit."""
    heap = [(0, index) for index in range(count)]
    bins: list[list[int]] = [[] for _ in range(count)]
    for row in order:
        filled, index = heap[0]
        filled += int(lengths[row])
        if filled > budget:
            return None
        bins[index].append(int(row))
        heapq.heapreplace(heap, (filled, index))
    return [np.array(rows, dtype=np.int64) for rows in bins]
