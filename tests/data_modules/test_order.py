"""Orders: nothing lost, nothing twice; blocks of one task; companions spread evenly."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.order import RngOf, easy_to_hard, grouped, mixed, sequential, spread
from data_modules.seeding import generator

SIZES = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 40), min_size=1).filter(
    lambda sizes: any(sizes.values())
)
OTHERS = st.integers(0, 60)


def rows_of(sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Rows 1000, 1001, ... for 'a', 2000, ... for 'b': a row tells its task."""
    return {name: (ord(name) - 96) * 1000 + np.arange(size) for name, size in sizes.items()}


def companions_of(count: int) -> dict[str, np.ndarray]:
    return {"other": np.arange(count)}  # below 1000


def rng(seed: int = 0) -> RngOf:
    return lambda task: generator(seed, "order", task)


def hardness(rows: np.ndarray) -> np.ndarray:
    """Few values, so that there are ties."""
    return rows * 7919 % 5


@given(sizes=SIZES, count=OTHERS, block=st.integers(1, 20), seed=st.integers(0, 5))
def test_nothing_is_lost_and_nothing_comes_twice(
    sizes: dict[str, int], count: int, block: int, seed: int
) -> None:
    groups, companions = rows_of(sizes), companions_of(count)
    expected = sorted(np.concatenate([*companions.values(), *groups.values()]).tolist())
    for order in (
        mixed(groups | companions, rng(seed)),
        easy_to_hard(groups, companions, hardness, rng(seed)),
        grouped(groups, companions, block, rng(seed)),
        sequential(groups, companions, rng(seed)),
    ):
        assert sorted(order.tolist()) == expected
        assert order.dtype.kind == "i"


def test_repeated_rows_are_kept_as_often() -> None:
    groups = {"a": np.array([7, 7, 7, 8])}
    for order in (mixed(groups, rng()), grouped(groups, companions_of(0), 2, rng())):
        assert sorted(order.tolist()) == [7, 7, 7, 8]


@given(
    blocks=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5), min_size=1),
    count=OTHERS,
    block=st.integers(1, 16),
    seed=st.integers(0, 5),
)
def test_blocks_hold_one_task_and_tasks_take_turns(
    blocks: dict[str, int], count: int, block: int, seed: int
) -> None:
    groups = rows_of({name: n * block for name, n in blocks.items()})
    order = grouped(groups, companions_of(count), block, rng(seed))
    tasks = (order[order >= 1000] // 1000).reshape(-1, block)
    assert (tasks == tasks[:, :1]).all(), "a block without its companions is of one task"
    # A cycle gives every task that has rows left one block.
    left = {ord(name) - 96: n for name, n in blocks.items()}
    at = 0
    while any(left.values()):
        names = {name for name, n in left.items() if n}
        assert set(tasks[at : at + len(names), 0].tolist()) == names
        at += len(names)
        left = {name: n - (name in names) for name, n in left.items()}


@given(
    blocks=st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 5), min_size=1),
    count=OTHERS,
    block=st.integers(1, 16),
)
def test_companions_are_spread_evenly(blocks: dict[str, int], count: int, block: int) -> None:
    groups = rows_of({name: n * block for name, n in blocks.items()})
    order = grouped(groups, companions_of(count), block, rng())
    total = sum(blocks.values())
    # Up to the end of block k, companions lie within one row of their share, wherever the block's
    # last own row falls among the block's own companions.
    own = np.cumsum(order >= 1000)
    used = np.cumsum(order < 1000)
    for k in range(1, total + 1):
        first = np.searchsorted(own, k * block)
        last = np.searchsorted(own, k * block + 1) if k < total else len(order)
        assert used[first] <= count * k / total + 1
        assert used[last - 1] >= count * k / total - 1


def test_an_uneven_task_ends_in_a_short_block() -> None:
    order = grouped(rows_of({"a": 7, "b": 2}), companions_of(0), 3, rng())
    tasks = (order // 1000).tolist()
    # Cycle 1: three a and two b in either order; then a alone.
    assert tasks in ([1] * 3 + [2] * 2 + [1] * 4, [2] * 2 + [1] * 7)


def test_rows_are_shuffled_inside_their_task_and_cycles_differ() -> None:
    order = grouped(rows_of(dict.fromkeys("abcdef", 40)), companions_of(0), 4, rng())
    firsts = (order.reshape(-1, 4)[:, 0] // 1000).reshape(-1, 6)
    assert len({tuple(cycle) for cycle in firsts.tolist()}) > 1
    # Not only inside blocks: the first block is not the head of the file.
    of_a = order[order // 1000 == 1] - 1000
    assert sorted(of_a.tolist()) == list(range(40))
    assert sorted(of_a[:4].tolist()) != [0, 1, 2, 3]


def test_sequential_follows_the_declared_order() -> None:
    groups = {name: rows_of({name: 5})[name] for name in "cab"}
    order = sequential(groups, companions_of(6), rng())
    main = order[order >= 1000] // 1000
    assert main.tolist() == [3] * 5 + [1] * 5 + [2] * 5
    # two companions beside each of the three equal tasks
    assert [int((part < 1000).sum()) for part in np.split(order, 3)] == [2, 2, 2]


def test_mixed_depends_on_the_seed_and_not_on_the_mapping_order() -> None:
    groups = rows_of({"a": 20, "b": 20})
    again = {name: groups[name] for name in ("b", "a")}
    assert mixed(groups, rng(1)).tolist() == mixed(again, rng(1)).tolist()
    assert mixed(groups, rng(1)).tolist() != mixed(groups, rng(2)).tolist()


def test_mixed_really_mixes() -> None:
    order = mixed(rows_of({"a": 500, "b": 500}), rng()) // 1000
    changes = sum(one != other for one, other in pairwise(order.tolist()))
    # 999 neighbours differ with probability 1/2: 5 standard deviations are 79.
    assert abs(changes - 500) < 79


@pytest.mark.parametrize("groups", [{}, {"a": np.empty(0, np.int64)}])
def test_a_piece_with_companions_only_is_kept(groups: dict[str, np.ndarray]) -> None:
    # A phase may end one replay row into its next epoch.
    for order in (
        grouped(groups, companions_of(3), 4, rng()),
        sequential(groups, companions_of(3), rng()),
    ):
        assert sorted(order.tolist()) == [0, 1, 2]


@given(sizes=SIZES, count=OTHERS, seed=st.integers(0, 5))
def test_easy_comes_before_hard_and_companions_are_spread(
    sizes: dict[str, int], count: int, seed: int
) -> None:
    order = easy_to_hard(rows_of(sizes), companions_of(count), hardness, rng(seed))
    own = order[order >= 1000]
    assert (np.diff(hardness(own)) >= 0).all()
    used = np.cumsum(order < 1000)[order >= 1000]
    exact = count * np.arange(1, len(own) + 1) / len(own)
    assert (np.abs(used - exact) <= 1 + count / len(own)).all()


def test_ties_are_random() -> None:
    groups = rows_of({"a": 200, "b": 200})
    order = easy_to_hard(groups, companions_of(0), np.zeros_like, rng())
    changes = sum(one != other for one, other in pairwise((order // 1000).tolist()))
    assert changes > 100, "tasks are mixed"
    assert order.tolist() != easy_to_hard(groups, companions_of(0), np.zeros_like, rng(1)).tolist()


@given(rows=st.integers(0, 60), others=st.integers(0, 60), first=st.integers(0, 80))
def test_spread_keeps_both_orders(rows: int, others: int, first: int) -> None:
    order = spread(np.arange(rows), 1000 + np.arange(others), first)
    assert order[order < 1000].tolist() == list(range(rows))
    assert order[order >= 1000].tolist() == list(range(1000, 1000 + others))
    assert (order[: min(first, rows)] < 1000).all()


@pytest.mark.parametrize("kind", ["mixed", "grouped", "sequential", "easy_to_hard"])
@given(sizes=SIZES, count=OTHERS, extra=st.integers(1, 40), data=st.data())
def test_another_task_changes_no_order_of_the_others(
    kind: str, sizes: dict[str, int], count: int, extra: int, data: st.DataObject
) -> None:
    def order_of(groups: dict[str, np.ndarray], companions: dict[str, np.ndarray]) -> np.ndarray:
        if kind == "mixed":
            return mixed(groups | companions, rng())
        if kind == "grouped":
            return grouped(groups, companions, 4, rng())
        if kind == "sequential":
            return sequential(groups, companions, rng())
        return easy_to_hard(groups, companions, hardness, rng())

    groups, companions = rows_of(sizes), companions_of(count)
    before = order_of(groups, companions)
    name = data.draw(st.sampled_from("_z"))  # first or last of all names
    if data.draw(st.booleans()):
        groups = {**groups, name: 9000 + np.arange(extra)}
    else:
        companions = {**companions, name: 900 + np.arange(extra)}
    after = order_of(groups, companions)
    own = (after < 900) | ((after >= 1000) & (after < 9000))
    main = before >= 1000
    # Not only inside a task: the other tasks keep their order among each other too.
    assert after[own & (after >= 1000)].tolist() == before[main].tolist()
    assert after[own & (after < 1000)].tolist() == before[~main].tolist()
