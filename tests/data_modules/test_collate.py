"""One micro-batch: ids, labels, weights, positions and borders, packed and padded."""

from __future__ import annotations

import numpy as np
import torch

from data_modules.collate import IGNORE_INDEX, Batch, collate
from data_modules.samples import Sample, SampleStore

PAD = 99
X = IGNORE_INDEX


def store() -> SampleStore:
    return SampleStore.build(
        ("code", "qa"),
        [
            Sample("qa", [11, 12, 13], np.array([False, True, True])),
            Sample("code", [21, 22], np.array([False, True])),
            Sample("qa", [31, 32, 33, 34, 35], np.array([False, True, False, False, True])),
        ],
    )


def batch(packing: bool, empty: bool = False) -> Batch:
    rows, weights = np.array([2, 1]), np.array([0.25, 0.5])
    return collate(store(), rows, weights, PAD, packing, empty)


def test_packed_rows_lie_behind_one_another() -> None:
    got = batch(packing=True)
    assert got.input_ids.tolist() == [[31, 32, 33, 34, 35, 21, 22]]
    assert got.labels.tolist() == [[X, 32, X, X, 35, X, 22]]
    assert got.position_ids.tolist() == [[0, 1, 2, 3, 4, 0, 1]]
    assert got.loss_weights.tolist() == [[0, 0.25, 0, 0, 0.25, 0, 0.5]]
    assert got.task_ids.tolist() == [[1, 1, 1, 1, 1, 0, 0]]
    assert got.cu_seqlens is not None
    assert got.cu_seqlens.tolist() == [0, 5, 7]
    assert (got.tokens, got.empty) == (7, False)


def test_padded_rows_lie_under_one_another() -> None:
    got = batch(packing=False)
    assert got.input_ids.tolist() == [[31, 32, 33, 34, 35], [21, 22, PAD, PAD, PAD]]
    assert got.labels.tolist() == [[X, 32, X, X, 35], [X, 22, X, X, X]]
    assert got.position_ids.tolist() == [[0, 1, 2, 3, 4], [0, 1, 0, 0, 0]]
    assert got.loss_weights.tolist() == [[0, 0.25, 0, 0, 0.25], [0, 0.5, 0, 0, 0]]
    assert got.task_ids[0].tolist() == [1] * 5
    assert got.task_ids[1, :2].tolist() == [0, 0]
    assert got.cu_seqlens is None
    assert got.tokens == 7, "padding is no token"


def test_a_stand_in_has_the_shape_and_no_weight() -> None:
    for packing in (True, False):
        real, stand_in = batch(packing), batch(packing, empty=True)
        assert stand_in.input_ids.tolist() == real.input_ids.tolist()
        assert (stand_in.labels == X).all()
        assert (stand_in.loss_weights == 0).all()
        assert (stand_in.tokens, stand_in.empty) == (0, True)


def test_types() -> None:
    got = batch(packing=True)
    for name in ("input_ids", "labels", "position_ids", "task_ids"):
        assert getattr(got, name).dtype == torch.int64
    assert got.loss_weights.dtype == torch.float32
    assert got.cu_seqlens is not None
    assert got.cu_seqlens.dtype == torch.int32  # what variable-length kernels take


def test_no_label_is_predicted_across_samples() -> None:
    # A label is predicted one position earlier; at a border that would be the neighbour's.
    got = batch(packing=True)
    assert got.cu_seqlens is not None
    for start in got.cu_seqlens[:-1].tolist():
        assert got.labels[0, start] == X


def test_a_mapped_store_is_not_aliased() -> None:
    one = store()
    got = collate(one, np.array([0]), np.ones(1), PAD, packing=True)
    got.input_ids[:] = 0
    assert one.tokens(0)[0].tolist() == [11, 12, 13]


def test_a_repeated_row_counts_every_time() -> None:
    got = collate(store(), np.array([1, 1]), np.array([0.5, 0.25]), PAD, packing=True)
    assert got.input_ids.tolist() == [[21, 22, 21, 22]]
    assert got.loss_weights.tolist() == [[0, 0.5, 0, 0.25]]


def test_the_sign_of_a_weight_is_kept_even_of_zero() -> None:
    for packing in (True, False):
        weights = np.array([-0.0, 0.0, -0.25])
        got = collate(store(), np.array([0, 1, 2]), weights, PAD, packing).loss_weights
        at = torch.signbit(got).sum(-1)
        assert at.tolist() == ([4] if packing else [2, 0, 2])
        assert float(got.min()) == -0.25
