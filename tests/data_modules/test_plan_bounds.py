"""How long a phase can be before its tasks are known: against the plans of every choice."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from data_modules.faults import DataFault
from data_modules.mixture import (
    BalanceConfig,
    MixtureConfig,
    NegativesConfig,
    Order,
    OrderBy,
    Strategy,
)
from data_modules.plan import plan_phase
from data_modules.plan_bounds import Undecided, step_bounds
from data_modules.roles import Roles
from data_modules.samples import Sample, SampleStore

SIZES = {"code": 30, "math": 12, "qa": 70, "sorting": 8, "chat": 40}
MAIN = ("code", "math", "qa", "sorting")
#: tokens of a row
LENGTHS = {"code": 12, "math": 6, "qa": 9, "sorting": 20, "chat": 8}
BATCH = 4


def store(negatives: tuple[str, ...] = MAIN) -> SampleStore:
    rows = [
        Sample(task, range(LENGTHS[task]), [place > 2 for place in range(LENGTHS[task])], sign)
        for task, size in SIZES.items()
        for sign in (1, -1)
        if sign == 1 or task in negatives
        for _ in range(size)
    ]
    return SampleStore.build(tuple(sorted(SIZES)), rows)


def bounds(mixture: MixtureConfig, fewest: int, most: int, **settings: Any) -> tuple[int, int]:
    arguments: dict[str, Any] = {
        "store": store(),
        "global_batch_size": BATCH,
        "seed": 0,
        "rows_per_task": None,
        "max_steps": None,
        "source_weights": {},
        "row_losses": None,
    }
    general = ("chat",) if mixture.replay else ()
    roles = Roles(MAIN, (), general)
    undecided = Undecided(fewest, most)
    return step_bounds("hard", mixture, roles, undecided, **(arguments | settings))


def of_all_choices(mixture: MixtureConfig, fewest: int, most: int, **settings: Any) -> list[int]:
    """Steps of the plan of every choice."""
    samples = store()
    steps = []
    for count in range(fewest, most + 1):
        for main in combinations(MAIN, count):
            rest = tuple(set(MAIN) - set(main)) if mixture.rest_share else ()
            roles = Roles(main, rest, ("chat",) if mixture.replay else ())
            steps.append(plan_phase("hard", mixture, roles, samples, BATCH, 0, **settings).steps)
    return steps


CAPS = BalanceConfig(Strategy.caps, min_rows=10, max_rows=40)
WEIGHTS = BalanceConfig(Strategy.weights, weights=dict.fromkeys(MAIN, 1.0))
UNIMAX = BalanceConfig(Strategy.unimax, max_repeats=2.0)


@pytest.mark.parametrize(("fewest", "most"), [(1, 1), (1, 3), (2, 3)])
@pytest.mark.parametrize(
    "mixture",
    [
        MixtureConfig(epochs=1),
        MixtureConfig(epochs=0.5, replay=0.3, rest_share=0.25),
        MixtureConfig(epochs=2, balance=CAPS, negatives=NegativesConfig(share=0.2)),
        MixtureConfig(epochs=1.5, balance=WEIGHTS),
        MixtureConfig(epochs=3, balance=UNIMAX),
        MixtureConfig(steps=7, replay=0.3),
        MixtureConfig(steps=60, balance=UNIMAX),
    ],
    ids=["natural", "rest", "negatives", "weights", "unimax", "steps", "unimax-steps"],
)
def test_the_bounds_are_the_shortest_and_longest_plan(
    mixture: MixtureConfig, fewest: int, most: int
) -> None:
    steps = of_all_choices(mixture, fewest, most)
    assert bounds(mixture, fewest, most) == (min(steps), max(steps))


def test_a_length_in_tokens_is_bounded() -> None:
    mixture = MixtureConfig(tokens=900, replay=0.2)
    steps = of_all_choices(mixture, 1, 3)
    low, high = bounds(mixture, 1, 3)
    # the longest and the shortest rows alone
    assert (low, high) == (min(steps), max(steps))
    assert low < high
    inner = of_all_choices(mixture, 2, 3)
    assert low <= min(inner) <= max(inner) <= high


def test_limits_hold() -> None:
    mixture = MixtureConfig(epochs=1)
    assert bounds(mixture, 2, 3, max_steps=3) == (3, 3)
    few = of_all_choices(mixture, 2, 3, rows_per_task=10)
    assert bounds(mixture, 2, 3, rows_per_task=10) == (min(few), max(few)) == (5, 8)


def test_a_task_without_rows_shows_before_it_is_picked() -> None:
    empty = SampleStore.build(
        tuple(sorted(SIZES)),
        [Sample(task, range(5), [False] * 4 + [True]) for task in ("code", "math", "qa")],
    )
    with pytest.raises(DataFault, match="task 'sorting' has no usable training row"):
        bounds(MixtureConfig(epochs=1), 1, 1, store=empty)


def test_a_choice_without_negatives_shows_before_it_is_made() -> None:
    mixture = MixtureConfig(epochs=1, negatives=NegativesConfig(share=0.1))
    some = store(negatives=("code", "qa"))
    with pytest.raises(DataFault, match="may be given 2 of its tasks") as caught:
        bounds(mixture, 2, 3, store=some)
    assert "math, sorting has no negative row" in str(caught.value)
    low, high = bounds(mixture, 3, 3, store=some)  # one of three has some
    assert 0 < low < high
    rest = MixtureConfig(epochs=1, rest_share=0.2, negatives=NegativesConfig(share=0.1))
    assert bounds(rest, 2, 3, store=some)[0] > 0  # the rest has them


def test_an_unusable_file_shows_before_the_phase(tmp_path: Path) -> None:
    loss = MixtureConfig(epochs=1, order=Order.easy_to_hard, order_by=OrderBy.loss)
    with pytest.raises(DataFault, match=r"data\.row_losses"):
        bounds(loss, 1, 2, row_losses=tmp_path / "none.npz")
    axes = BalanceConfig(Strategy.axes, difficulty_from=str(tmp_path / "none.json"))
    with pytest.raises(DataFault, match="difficulty_from"):
        bounds(MixtureConfig(epochs=1, balance=axes), 1, 2)
