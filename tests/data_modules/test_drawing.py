"""Drawing: even rounds, fresh rows where few are taken, sources by weight, few rows in proportion."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from data_modules.drawing import Dealer, Deck, few_rows, pool_of
from data_modules.samples import Sample, SampleStore
from data_modules.seeding import generator

TAKES = st.lists(st.integers(0, 120), min_size=1, max_size=12)


def deck(size: int, seed: int = 0) -> Deck:
    return Deck(np.arange(100, 100 + size), lambda number: generator(seed, "deck", number))


def even(rows: np.ndarray, size: int) -> bool:
    times = np.bincount(rows - 100, minlength=size)
    return len(times) == size and times.max() - times.min() <= 1


@given(size=st.integers(1, 50), takes=TAKES, seed=st.integers(0, 5))
def test_rows_come_evenly_in_every_take_and_over_all(
    size: int, takes: list[int], seed: int
) -> None:
    one = deck(size, seed)
    dealt = np.empty(0, np.int64)
    for count in takes:
        taken = one.take(count)
        assert len(taken) == count
        assert even(taken, size), "no row again before all others within a take"
        dealt = np.concatenate([dealt, taken])
        assert even(dealt, size), "nor over the takes so far"


def test_a_smaller_take_draws_other_rows_next_time_and_no_head() -> None:
    one = deck(1000)
    first, second = one.take(100), one.take(100)
    assert not set(first.tolist()) & set(second.tolist())
    # The mean of a uniform draw of 100 lies within 5 standard errors (26.0 here) of 599.5.
    assert abs(first.mean() - 599.5) < 130
    again, other = deck(1000).take(100), deck(1000, seed=1).take(100)
    assert again.tolist() == first.tolist() != other.tolist()


def test_rounds_are_shuffled_anew() -> None:
    one = deck(40)
    assert one.take(40).tolist() != one.take(40).tolist()


def store_of(groups: Mapping[tuple[str, str], int], task: str = "qa") -> SampleStore:
    """Rows of one task by (source, language), the groups' rows taking turns."""
    left = dict(groups)
    samples = []
    while any(left.values()):
        for (source, language), count in left.items():
            if count:
                mask = np.array([False, True])
                samples.append(Sample(task, [1, 2], mask, source=source, language=language))
                left[source, language] -= 1
    return SampleStore.build((task,), samples)


def sources_of(store: SampleStore, rows: np.ndarray) -> Counter[str]:
    return Counter(store.sources[one] for one in store.source_ids[rows])


@given(
    sizes=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    weights=st.tuples(st.floats(0.1, 10), st.floats(0.1, 10)),
    takes=TAKES,
)
def test_sources_are_drawn_by_weight_times_rows(
    sizes: tuple[int, int], weights: tuple[float, float], takes: list[int]
) -> None:
    assume(weights[0] != weights[1])  # alike, they are drawn as one
    store = store_of({("a", ""): sizes[0], ("b", ""): sizes[1]})
    pool = pool_of(store, store.rows_of("qa"), {"qa/a": weights[0], "qa/b": weights[1]})
    dealer = Dealer(pool, 0, "mix", "task", "qa")
    whole = sum(weight * size for weight, size in zip(weights, sizes, strict=True))
    dealt = np.empty(0, np.int64)
    for count in takes:
        taken = dealer.take(count)
        assert len(taken) == count
        dealt = np.concatenate([dealt, taken])
        share = weights[0] * sizes[0] / whole
        assert abs(sources_of(store, dealt)["qa/a"] - share * len(dealt)) <= 1 + 1e-6


@pytest.mark.parametrize("weights", [{}, {"qa/a": 1.0}, {"qa/a": 2.5, "qa/b": 2.5}])
def test_equal_weights_are_as_good_as_none(weights: dict[str, float]) -> None:
    store = store_of({("a", ""): 30, ("b", ""): 9})
    rows = store.rows_of("qa")
    plain = Dealer(pool_of(store, rows, {}), 0, "mix", "task", "qa")
    weighted = Dealer(pool_of(store, rows, weights), 0, "mix", "task", "qa")
    for count in (7, 20, 33):
        assert weighted.take(count).tolist() == plain.take(count).tolist()


def test_a_source_of_no_weight_is_left_out() -> None:
    store = store_of({("a", ""): 30, ("b", ""): 9})
    pool = pool_of(store, store.rows_of("qa"), {"qa/a": 0.0})
    assert len(pool) == 9
    assert sources_of(store, pool.rows) == {"qa/b": 9}
    assert len(pool_of(store, store.rows_of("qa"), {"qa/a": 0.0, "qa/b": 0.0})) == 0


def test_rows_before_one_comes_twice() -> None:
    store = store_of({("a", ""): 30, ("b", ""): 10})
    rows = store.rows_of("qa")
    assert pool_of(store, rows, {}).once == 40
    # b is drawn as often as a: of 20 rows ten are b's, all of them
    assert pool_of(store, rows, {"qa/b": 3.0}).once == pytest.approx(20)


@given(
    groups=st.dictionaries(
        st.tuples(st.sampled_from("ab"), st.sampled_from(["zh", "en", ""])),
        st.integers(1, 80),
        min_size=1,
    ),
    count=st.integers(1, 60),
    seed=st.integers(0, 3),
)
def test_few_rows_keep_the_proportions_and_grow_by_adding(
    groups: dict[tuple[str, str], int], count: int, seed: int
) -> None:
    store = store_of(groups)
    rows = store.rows_of("qa")
    few = few_rows(store, rows, count, seed, "qa")
    assert len(few) == min(count, len(rows))
    assert (np.diff(few) > 0).all(), "in file order, none twice"
    if count < len(rows):
        got = Counter(
            (store.sources[source].removeprefix("qa/"), store.languages[language])
            for source, language in zip(store.source_ids[few], store.language_ids[few], strict=True)
        )
        for group, size in groups.items():
            # Sainte-Lague stays within a row of the exact part for two groups, two for many.
            assert abs(got[group] - count * size / len(rows)) < 2
    more = few_rows(store, rows, count + 7, seed, "qa")
    assert set(few.tolist()) <= set(more.tolist())


def test_few_rows_follow_the_seed_and_names() -> None:
    store = store_of({("a", "zh"): 60, ("a", "en"): 40})
    rows = store.rows_of("qa")
    few = few_rows(store, rows, 10, 0, "qa")
    languages = Counter(store.languages[one] for one in store.language_ids[few])
    assert languages == {"zh": 6, "en": 4}
    assert few.tolist() == few_rows(store, rows, 10, 0, "qa").tolist()
    assert few.tolist() != few_rows(store, rows, 10, 1, "qa").tolist()
    assert few.tolist() != list(range(10))
