"""Slices of a micro-batch: together they are the whole, and each knows what its last position predicts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from data_modules.collate import IGNORE_INDEX, Batch, collate
from data_modules.slicing import slice_of
from tests.shared_data import made_store

PAD = 63
STORE = made_store({"code": [6, -9, 4], "qa": [7, 5]})
STORE.input_ids[:] = np.arange(len(STORE.input_ids)) % 50 + 1
WEIGHTS = np.array([0.5, -0.25, 1.0, 2.0, 0.125])


def whole(packing: bool, rows: tuple[int, ...] = (0, 1, 2, 3, 4)) -> Batch:
    at = np.array(rows)
    return collate(STORE, at, WEIGHTS[at], PAD, packing)


@pytest.mark.parametrize("packing", [True, False])
@pytest.mark.parametrize("parts", [2, 3, 4, 8, 40])
def test_slices_together_are_the_whole(packing: bool, parts: int) -> None:
    batch = whole(packing)
    rows, length = batch.input_ids.shape
    slices = [slice_of(batch, part, parts, PAD) for part in range(parts)]
    each = -(-length // parts)
    for name, fill in (("input_ids", PAD), ("position_ids", 0)):
        joined = torch.cat([getattr(one, name) for one in slices], 1)
        assert joined.shape == (rows, each * parts)
        assert torch.equal(joined[:, :length], getattr(batch, name))
        assert (joined[:, length:] == fill).all()
    for name, fill in (("labels", IGNORE_INDEX), ("loss_weights", 0), ("task_ids", 0)):
        found = [getattr(one, name) for one in slices]
        assert all(one.shape == (rows, each + 1) for one in found)
        # what position i predicts stands one further on, also over the border of two slices
        predicted = torch.cat([one[:, 1:] for one in found], 1)
        assert torch.equal(predicted[:, : length - 1], getattr(batch, name)[:, 1:])
        assert (predicted[:, length - 1 :] == fill).all()
        # negatives keep the sign of a zero
        assert torch.equal(found[0][:, :1].sign(), getattr(batch, name)[:, :1].sign())
    signs = torch.cat([torch.signbit(one.loss_weights[:, 1:]) for one in slices], 1)
    assert torch.equal(signs[:, : length - 1], torch.signbit(batch.loss_weights[:, 1:]))
    assert {one.parts for one in slices} == {parts}
    assert {one.tokens for one in slices} == {batch.tokens}


def test_segments_are_those_of_the_whole_and_padding_is_one_of_its_own() -> None:
    batch = whole(packing=True)  # 31 tokens
    assert batch.cu_seqlens is not None
    bounds = batch.cu_seqlens.tolist()
    for parts, wanted in ((2, [*bounds, 32]), (31, bounds), (4, [*bounds, 32])):
        for part in range(parts):
            found = slice_of(batch, part, parts, PAD).cu_seqlens
            assert found is not None
            assert found.dtype == torch.int32
            assert found.tolist() == wanted
    assert slice_of(whole(packing=False), 1, 2, PAD).cu_seqlens is None


def test_a_slice_is_not_sliced_again() -> None:
    with pytest.raises(AssertionError):
        slice_of(slice_of(whole(packing=True), 0, 2, PAD), 0, 2, PAD)
