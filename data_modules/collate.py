"""Rows of a store -> the tensors of one micro-batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from data_modules.samples import SampleStore

IGNORE_INDEX = -100


@dataclass(frozen=True)
class Batch:
    """One micro-batch of b rows and T positions; packed batches have b = 1.

    Attributes:
        input_ids, labels, position_ids: int64 [b, T]; labels are IGNORE_INDEX where unsupervised.
        loss_weights: float32 [b, T], weight of the token *at* that position in the step's loss; the
            sign bit is set where the token is a negative's.
        task_ids: int64 [b, T].
        cu_seqlens: int32 [samples + 1], where packed samples begin; None if not packed.
        tokens: real (not padding) positions of the whole micro-batch.
        empty: a stand-in computed so that all ranks take part in collectives; weighs nothing.
        parts: ranks that share the micro-batch, of which this is one's slice (``data_modules.slicing``).
            ``cu_seqlens`` are those of the whole.
    """

    input_ids: torch.Tensor
    labels: torch.Tensor
    position_ids: torch.Tensor
    loss_weights: torch.Tensor
    task_ids: torch.Tensor
    cu_seqlens: torch.Tensor | None
    tokens: int
    empty: bool = False
    parts: int = 1


def collate(
    store: SampleStore,
    rows: np.ndarray,
    row_weights: np.ndarray,
    pad_token_id: int,
    packing: bool,
    empty: bool = False,
) -> Batch:
    """Lay samples out in one micro-batch.

    Args:
        rows: int64 [n], n >= 1, indices into ``store``.
        row_weights: float64 [n], weight of each supervised token of the row; the sign bit is set
            for negatives.
    """
    samples = [store.tokens(int(row)) for row in rows]
    lengths = [len(ids) for ids, _ in samples]
    shape = (1, sum(lengths)) if packing else (len(rows), max(lengths))
    input_ids = np.full(shape, pad_token_id, dtype=np.int64)
    labels = np.full(shape, IGNORE_INDEX, dtype=np.int64)
    position_ids = np.zeros(shape, dtype=np.int64)
    weights = np.zeros(shape, dtype=np.float32)
    task_ids = np.zeros(shape, dtype=np.int64)
    start = 0
    for index, ((ids, supervised), row) in enumerate(zip(samples, rows, strict=True)):
        line, span = (0, slice(start, start + len(ids))) if packing else (index, slice(0, len(ids)))
        start += len(ids)
        input_ids[line, span] = ids
        position_ids[line, span] = np.arange(len(ids))
        task_ids[line, span] = store.task_ids[row]
        if not empty:
            labels[line, span] = np.where(supervised, ids, IGNORE_INDEX)
            weights[line, span] = np.where(supervised, row_weights[index], 0.0)
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return Batch(
        torch.from_numpy(input_ids),
        torch.from_numpy(labels),
        torch.from_numpy(position_ids),
        torch.from_numpy(weights),
        torch.from_numpy(task_ids),
        torch.from_numpy(bounds) if packing else None,
        tokens=0 if empty else sum(lengths),
        empty=empty,
    )
