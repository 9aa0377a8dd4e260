"""Layouts: every row once, within the budget, as many micro-steps for every rank."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_modules.packing import Layout, lay_out

MAX_SEQ_LEN = 64
LENGTHS = st.lists(st.integers(1, MAX_SEQ_LEN), min_size=1, max_size=80)
WORLDS = st.integers(1, 8)
MICRO = st.integers(1, 4)


def plain(layout: Layout) -> list[list[list[int]]]:
    return [[rows.tolist() for rows in micro_step] for micro_step in layout]


@given(lengths=LENGTHS, world=WORLDS, micro=MICRO, packing=st.booleans())
def test_layouts_are_complete_and_fit(
    lengths: list[int], world: int, micro: int, packing: bool
) -> None:
    sizes = np.array(lengths)
    layout = lay_out(sizes, world, micro, MAX_SEQ_LEN, packing)
    assert all(len(micro_step) == world for micro_step in layout)
    placed = [row for micro_step in plain(layout) for rows in micro_step for row in rows]
    assert sorted(placed) == list(range(len(lengths)))
    for micro_step in layout:
        # No micro-step in which every rank computes a stand-in.
        assert any(len(rows) for rows in micro_step)
        for rows in micro_step:
            assert rows.dtype.kind == "i"
            if packing:
                assert sizes[rows].sum() <= micro * MAX_SEQ_LEN
            else:
                assert len(rows) <= micro


@given(lengths=LENGTHS, world=WORLDS, micro=MICRO)
def test_unpacked_uses_the_fewest_micro_steps(lengths: list[int], world: int, micro: int) -> None:
    layout = lay_out(np.array(lengths), world, micro, MAX_SEQ_LEN, packing=False)
    assert len(layout) == math.ceil(len(lengths) / (world * micro))


@given(lengths=LENGTHS, world=WORLDS, micro=MICRO)
def test_packed_is_near_the_lower_bound(lengths: list[int], world: int, micro: int) -> None:
    budget = micro * MAX_SEQ_LEN
    steps = len(lay_out(np.array(lengths), world, micro, MAX_SEQ_LEN, packing=True))
    assert steps >= math.ceil(sum(lengths) / (budget * world))
    # One bin can only overflow when all are more than (budget - longest) full.
    if budget > MAX_SEQ_LEN:
        fewest = sum(lengths) / ((budget - MAX_SEQ_LEN + 1) * world)
        assert steps <= math.ceil(fewest) + 1


def test_packed_balances_tokens_between_ranks() -> None:
    # Longest first to the least filled: 8 | 7, 8 | 7+6, 8+5 | 7+6, 8+5+4 | 7+6, 8+5+4 | 7+6+3.
    layout = lay_out(np.array([3, 8, 5, 7, 4, 6]), 2, 1, 20, packing=True)
    assert plain(layout) == [[[1, 2, 4], [3, 5, 0]]]


def test_packed_puts_like_bins_into_one_micro_step() -> None:
    # Four bins, filled in the order 40, 39, 38, 37 + 20: the last is the fullest.
    lengths = np.array([40, 39, 38, 37, 20])
    layout = lay_out(lengths, 2, 1, 64, packing=True)
    sums = [[int(lengths[rows].sum()) for rows in micro_step] for micro_step in layout]
    assert sums == [[57, 40], [39, 38]]


def test_packed_takes_another_micro_step_rather_than_one_token_too_many() -> None:
    # 128 tokens would fill two bins of 64, but 40 + 25 is 65.
    layout = lay_out(np.array([40, 40, 25, 23]), 1, 1, 64, packing=True)
    assert sorted(len(rows) for (rows,) in layout) == [1, 1, 2]


def test_unpacked_rows_of_like_length_meet() -> None:
    lengths = np.array([1, 9, 2, 8, 3, 7, 4, 6])
    layout = lay_out(lengths, 2, 2, 10, packing=False)
    assert [[lengths[rows].tolist() for rows in step] for step in layout] == [
        [[9, 7], [8, 6]],
        [[4, 2], [3, 1]],
    ]


def test_more_ranks_than_rows_leaves_ranks_empty() -> None:
    for packing in (True, False):
        layout = lay_out(np.array([5, 6]), 4, 1, 10, packing)
        assert plain(layout) == [[[1], [0], [], []]]
