"""Sequence parallelism: the slice of a micro-batch's positions that one rank of a group computes."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F

from data_modules.collate import IGNORE_INDEX, Batch


def slice_of(batch: Batch, part: int, parts: int, pad_token_id: int) -> Batch:
    """The ``part``-th of ``parts`` equally long slices of a whole micro-batch.

    A number of positions that does not divide is filled up with padding, which weighs nothing; packed, it
    is a segment of its own. What is trained on (labels, weights, tasks) reaches one position further than
    the inputs: a slice's last position predicts the first token of the next slice.
    """
    assert batch.parts == 1, "only a whole micro-batch is sliced"
    length = batch.input_ids.shape[1]
    each = -(-length // parts)
    whole = each * parts
    start, end = part * each, (part + 1) * each

    def cut(tensor: torch.Tensor, fill: float, further: int = 0) -> torch.Tensor:
        return F.pad(tensor, (0, whole + further - length), value=fill)[:, start : end + further]

    bounds = batch.cu_seqlens
    if bounds is not None and whole > length:
        bounds = F.pad(bounds, (0, 1), value=whole)
    return replace(
        batch,
        input_ids=cut(batch.input_ids, pad_token_id),
        position_ids=cut(batch.position_ids, 0),
        labels=cut(batch.labels, IGNORE_INDEX, 1),
        loss_weights=cut(batch.loss_weights, 0.0, 1),
        task_ids=cut(batch.task_ids, 0, 1),
        cu_seqlens=bounds,
        parts=parts,
    )
