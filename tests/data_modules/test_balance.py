"""Balance: exact apportionment, even repeats, shares of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.balance import apportion, draw, epoch_rows, with_shares
from data_modules.mixture import BalanceConfig, Strategy

NAMES = st.text("abcdefgh", min_size=1, max_size=3)
SHARES = st.dictionaries(NAMES, st.floats(0.01, 1000), min_size=1, max_size=12)


@given(total=st.integers(0, 100_000), shares=SHARES)
def test_apportion_is_exact_in_total_and_within_one_row(
    total: int, shares: dict[str, float]
) -> None:
    counts = apportion(total, shares)
    assert sum(counts.values()) == total
    assert list(counts) == list(shares)
    whole = sum(shares.values())
    for name, count in counts.items():
        assert abs(count - total * shares[name] / whole) < 1 + 1e-6
        assert count >= 0


@given(total=st.integers(0, 1000), shares=SHARES, data=st.data())
def test_apportion_knows_no_order(
    total: int, shares: dict[str, float], data: st.DataObject
) -> None:
    names = data.draw(st.permutations(list(shares)))
    # Integers sum the same in any order; rounding of float sums is not what is tested here.
    whole = {name: float(round(share)) + 1 for name, share in shares.items()}
    assert apportion(total, {name: whole[name] for name in names}) == apportion(total, whole)


def test_apportion_by_hand() -> None:
    # exact 3.5 / 2.1 / 1.4: the largest remainder gets the row that is left
    assert apportion(7, {"a": 0.5, "b": 0.3, "c": 0.2}) == {"a": 4, "b": 2, "c": 1}
    assert apportion(2, {"c": 1, "b": 1, "a": 1}) == {"c": 0, "b": 1, "a": 1}, "ties go by name"
    assert apportion(5, {"a": 0, "b": 1}) == {"a": 0, "b": 5}


@given(
    size=st.integers(1, 50),
    count=st.integers(0, 300),
    seed=st.integers(0, 10),
    first=st.integers(0),
)
def test_draw_repeats_evenly_and_only_when_it_must(
    size: int, count: int, seed: int, first: int
) -> None:
    rows = np.arange(size) + first % 1000
    drawn = draw(rows, count, np.random.default_rng(seed))
    assert len(drawn) == count
    assert set(drawn.tolist()) <= set(rows.tolist())
    times = np.bincount(drawn - rows[0], minlength=size)
    assert times.max() - times.min() <= 1
    assert times.max() == -(-count // size)


def test_down_sampling_takes_no_head_and_follows_the_seed() -> None:
    rows = np.arange(1000)
    drawn = [draw(rows, 100, np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert drawn[0].tolist() == drawn[1].tolist()
    assert set(drawn[0].tolist()) != set(drawn[2].tolist())
    # The mean of a uniform draw of 100 lies within 5 standard errors (26.0 here) of 499.5.
    for one in drawn:
        assert abs(one.mean() - 499.5) < 130


def test_natural_takes_every_row_once() -> None:
    assert epoch_rows({"a": 3, "b": 40}, BalanceConfig()) == {"a": 3, "b": 40}


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (100, 150, {"a": 100, "b": 120, "c": 150}),
        (None, 110, {"a": 7, "b": 110, "c": 110}),
        (100, None, {"a": 100, "b": 120, "c": 9000}),
    ],
)
def test_caps(low: int | None, high: int | None, expected: dict[str, int]) -> None:
    balance = BalanceConfig(Strategy.caps, min_rows=low, max_rows=high)
    assert epoch_rows({"a": 7, "b": 120, "c": 9000}, balance) == expected


def test_weights_share_out_the_rows_there_are() -> None:
    balance = BalanceConfig(Strategy.weights, weights={"a": 1.0, "b": 3.0})
    assert epoch_rows({"a": 90, "b": 10}, balance) == {"a": 25, "b": 75}


@given(
    main=st.integers(1, 100_000),
    replay=st.floats(0, 0.6),
    rest=st.floats(0, 0.39),
)
def test_shares_are_shares_of_the_whole(main: int, replay: float, rest: float) -> None:
    added = with_shares(main, {"general": replay, "rest": rest})
    for name, share in (("general", replay), ("rest", rest)):
        # Exact parts: x_g + x_r + main = total, x_g = replay * total.
        assert abs(added[name] - share * main / (1 - replay - rest)) <= 0.5 + 1e-6


@given(main=st.integers(1, 100_000))
def test_thirty_percent_replay_is_met_within_one_row(main: int) -> None:
    added = with_shares(main, {"general": 0.3})["general"]
    assert abs(added - 0.3 * (main + added)) <= 1
    assert added == round(main * 3 / 7) or abs(main * 3 / 7 % 1 - 0.5) < 1e-9
