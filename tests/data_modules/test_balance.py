"""Balance: exact apportionment, the strategies by hand and their bounds, shares of the whole."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.balance import (
    AXES,
    FACTOR_RANGE,
    EpochRows,
    TaskFigures,
    apportion,
    difficulties,
    epoch_rows,
    row_limits,
    water_fill,
    with_shares,
)
from data_modules.faults import DataFault
from data_modules.mixture import BalanceConfig, Strategy

NAMES = st.text("abcdefgh", min_size=1, max_size=3)
SIZES = st.dictionaries(NAMES, st.integers(1, 5_000), min_size=1, max_size=12)
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


@given(total=st.integers(0, 2_000), shares=SHARES, data=st.data())
def test_apportion_keeps_to_the_most_and_loses_nothing_else(
    total: int, shares: dict[str, float], data: st.DataObject
) -> None:
    most = {name: data.draw(st.integers(0, 500), label=name) for name in shares}
    counts = apportion(total, shares, most)
    assert all(0 <= count <= most[name] for name, count in counts.items())
    assert sum(counts.values()) == min(total, sum(most.values()))


def test_apportion_hands_on_what_a_cap_leaves() -> None:
    # 30 each; a gives 20 on, half to either
    assert apportion(90, dict.fromkeys("abc", 1.0), {"a": 10}) == {"a": 10, "b": 40, "c": 40}


def figures(**rows: int) -> dict[str, TaskFigures]:
    return {task: TaskFigures(count) for task, count in rows.items()}


def rows(sizes: dict[str, int], balance: BalanceConfig, epochs: float = 1.0) -> dict[str, float]:
    return epoch_rows(figures(**sizes), balance, epochs).rows


def test_natural_takes_every_row_once() -> None:
    epoch = epoch_rows(figures(a=3, b=40), BalanceConfig())
    assert epoch == EpochRows({"a": 3, "b": 40}, 43)


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
    assert rows({"a": 7, "b": 120, "c": 9000}, balance) == expected


def test_weights_share_out_the_rows_there_are() -> None:
    balance = BalanceConfig(Strategy.weights, weights={"a": 1.0, "b": 3.0})
    assert rows({"a": 90, "b": 10}, balance) == {"a": 25, "b": 75}
    balance.rows = 8
    assert rows({"a": 90, "b": 10}, balance) == {"a": 2, "b": 6}


def test_temperature_by_hand() -> None:
    # square roots 10, 20, 30
    sizes = {"a": 100, "b": 400, "c": 900}
    balance = BalanceConfig(Strategy.temperature, rows=600)
    assert rows(sizes, balance) == pytest.approx({"a": 100, "b": 200, "c": 300})
    balance.size_limit = 400
    assert rows(sizes, balance) == pytest.approx({"a": 120, "b": 240, "c": 240})
    natural = BalanceConfig(Strategy.temperature, temperature=1.0)
    assert rows(sizes, natural) == pytest.approx(sizes)
    alike = rows(sizes, BalanceConfig(Strategy.temperature, temperature=1e9))
    assert alike == pytest.approx(dict.fromkeys(sizes, 1400 / 3))


def test_unimax_by_hand() -> None:
    # 1,110 rows: 370 each; a may be drawn 4 x 10 times, b and c share the rest alike
    sizes = {"a": 10, "b": 100, "c": 1000}
    balance = BalanceConfig(Strategy.unimax)
    assert rows(sizes, balance) == {"a": 40, "b": 400, "c": 670}
    # Over two epochs a row may still come four times in all.
    assert rows(sizes, balance, epochs=2) == {"a": 20, "b": 200, "c": 890}
    # Over eight, every task is at its most and the epoch falls short.
    epoch = epoch_rows(figures(**sizes), balance, 8)
    assert epoch == EpochRows({"a": 5, "b": 50, "c": 500}, 1110)


@given(
    sizes=SIZES,
    repeats=st.floats(0.5, 10),
    epochs=st.floats(0.1, 20),
    budget=st.integers(1, 20_000),
)
def test_unimax_fills_evenly_up_to_its_bound(
    sizes: dict[str, int], repeats: float, epochs: float, budget: int
) -> None:
    balance = BalanceConfig(Strategy.unimax, max_repeats=repeats, rows=budget)
    epoch = epoch_rows(figures(**sizes), balance, epochs)
    most = row_limits(figures(**sizes), balance)
    full = [task for task in sizes if epoch.rows[task] * epochs > most[task] - 1e-6]
    for task, count in epoch.rows.items():
        assert count * epochs <= most[task] + 1e-6 <= repeats * sizes[task] + 1e-5
        if task not in full:
            # Whoever is not at its most has the largest share.
            assert count == pytest.approx(max(epoch.rows.values()))
    if len(full) < len(sizes):
        assert epoch.total == pytest.approx(budget)
    assert epoch.total <= budget + 1e-6
    assert epoch.asked == budget


@given(budget=st.floats(0, 1e6), caps=SHARES)
def test_water_fill_loses_nothing(budget: float, caps: dict[str, float]) -> None:
    filled = water_fill(budget, caps)
    assert sum(filled.values()) == pytest.approx(min(budget, sum(caps.values())))
    assert all(filled[name] <= caps[name] for name in caps)


def test_axes_by_hand() -> None:
    tasks = {
        "a": TaskFigures(100, quality=0.5, difficulty=0.3),
        "b": TaskFigures(900, quality=1.0, difficulty=0.1),
    }
    balance = BalanceConfig(Strategy.axes, quality=2.0, importance={"a": 3.0})
    epoch = epoch_rows(tasks, balance)
    # roots 10, 30; squares .25, 1; .3, .1; 3, 1: each divided by its mean
    assert epoch.factors["a"] == pytest.approx(
        {"quantity": 0.5, "quality": 0.4, "difficulty": 1.5, "importance": 1.5}
    )
    assert epoch.factors["b"] == pytest.approx(
        {"quantity": 1.5, "quality": 1.6, "difficulty": 0.5, "importance": 0.5}
    )
    assert epoch.rows == pytest.approx({"a": 1000 * 0.45 / 1.05, "b": 1000 * 0.6 / 1.05})


@given(
    sizes=SIZES,
    data=st.data(),
    exponents=st.tuples(st.floats(0, 4), st.floats(0, 4), st.floats(0.3, 5)),
)
def test_axes_are_clipped_and_follow_their_factors(
    sizes: dict[str, int], data: st.DataObject, exponents: tuple[float, float, float]
) -> None:
    unit = st.floats(0, 1)
    tasks = {
        task: TaskFigures(count, None, data.draw(unit), data.draw(unit))
        for task, count in sizes.items()
    }
    quality, difficulty, temperature = exponents
    balance = BalanceConfig(
        Strategy.axes, quality=quality, difficulty=difficulty, temperature=temperature
    )
    epoch = epoch_rows(tasks, balance)
    low, high = FACTOR_RANGE
    weights = {task: math.prod(axes.values()) for task, axes in epoch.factors.items()}
    for task, axes in epoch.factors.items():
        assert list(axes) == list(AXES)
        assert all(low <= factor <= high for factor in axes.values())
        share = weights[task] / sum(weights.values())
        assert epoch.rows[task] == pytest.approx(share * sum(sizes.values()))


def test_axes_without_difficulty_leave_it_at_one() -> None:
    tasks = {"a": TaskFigures(10), "b": TaskFigures(20, difficulty=0.5)}
    factors = epoch_rows(tasks, BalanceConfig(Strategy.axes)).factors
    assert [one["difficulty"] for one in factors.values()] == [1.0, 1.0]


def test_an_axis_of_zeros_says_nothing() -> None:
    tasks = {name: TaskFigures(10, difficulty=0.0) for name in "ab"}  # both at accuracy 1
    assert epoch_rows(tasks, BalanceConfig(Strategy.axes)).rows == {"a": 10, "b": 10}


def evaluation(folder: Path, **tasks: Any) -> BalanceConfig:
    path = folder / "evaluation.json"
    path.write_text(json.dumps({"tasks": tasks}), encoding="utf-8")
    return BalanceConfig(Strategy.axes, difficulty_from=str(path))


def test_difficulty_from_an_evaluation(tmp_path: Path) -> None:
    def judged(score: float) -> dict[str, Any]:
        by_metric = {"exact_match": {"value": score}, "token_f1": {"value": 0.125}}
        sets = {"ordinary": {"processed": by_metric}}
        return {"loss": 2.0, "metric": "exact_match", "sets": sets}

    unjudged = {"loss": 3.0, "metric": "", "sets": {}}
    balance = evaluation(tmp_path, a=judged(0.75), b=judged(1.0), c=unjudged)
    assert difficulties(balance, ("a", "b"), "x") == {"a": 0.25, "b": 0.0}
    assert difficulties(balance, ("a", "c"), "x") == {"a": 2.0, "c": 3.0}, "else all by loss"
    given = BalanceConfig(Strategy.axes, difficulty_of={"a": 5.0})
    assert difficulties(given, ("a",), "x") == {"a": 5.0}
    assert difficulties(BalanceConfig(Strategy.axes), ("a",), "x") == {"a": None}


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (None, {"a": 150, "b": 100, "c": 120}),
        (400, {"a": 150, "b": 125, "c": 125}),  # the smaller ones are raised evenly
        (450, {"a": 150, "b": 150, "c": 150}),
        (500, {"a": 150, "b": 150, "c": 150}),  # no higher than max_rows
        (340, {"a": 120, "b": 100, "c": 120}),  # the largest is lowered first
        (200, {"a": 100, "b": 100, "c": 100}),  # no lower than min_rows
    ],
)
def test_caps_fill_an_epoch_of_a_given_size(rows: int | None, expected: dict[str, float]) -> None:
    tasks = {"a": TaskFigures(600), "b": TaskFigures(50), "c": TaskFigures(120)}
    balance = BalanceConfig(Strategy.caps, rows=rows, min_rows=100, max_rows=150)
    epoch = epoch_rows(tasks, balance)
    assert epoch.rows == pytest.approx(expected)
    assert epoch.asked == (rows or 370)


def test_an_unusable_evaluation_is_a_fault(tmp_path: Path) -> None:
    where = "curriculum.phases.mix.balance"
    balance = evaluation(tmp_path, a={"loss": 1.0}, b={"loss": float("nan")})
    with pytest.raises(DataFault, match="has no loss of b, c") as caught:
        difficulties(balance, ("a", "b", "c"), where)
    (fault,) = caught.value.faults
    assert fault.where == f"{where}.difficulty_from"
    assert "difficulty_of" in fault.remedy
    path = tmp_path / "evaluation.json"
    for text in ("[]", "{", "{}"):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(DataFault, match="cannot be read as an evaluation"):
            difficulties(balance, ("a",), where)
    path.unlink()
    with pytest.raises(DataFault, match=r"cannot be read as an evaluation \(FileNotFoundError"):
        difficulties(balance, ("a",), where)


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
