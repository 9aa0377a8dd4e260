"""Negatives in a plan: how many, which, where; beside their right answers on demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.faults import DataFault
from data_modules.mixture import MixtureConfig, NegativesConfig, Order
from data_modules.phase_plan import PhasePlan
from data_modules.plan import plan_phase
from data_modules.roles import Roles
from data_modules.samples import Sample, SampleStore, key_of

RIGHT = {"code": 60, "qa": 90, "chat": 40}
WRONG = {"code": 12, "qa": 40}
ROLES = Roles(("code", "qa"), (), ())


def store_of(
    right: Mapping[str, int] = RIGHT, wrong: Mapping[str, int] = WRONG, first: int = 0
) -> SampleStore:
    """Negative k of a task answers the request of its right row ``first + k``."""

    def sample(task: str, index: int, sign: int) -> Sample:
        request = key_of(task, str(index))
        ids = [ord(task[0]), index, 3, sign + 2]
        return Sample(task, ids, np.arange(4) > 1, sign=sign, request_key=request)

    samples = [sample(task, i, 1) for task in sorted(right) for i in range(right[task])]
    samples += [sample(task, first + i, -1) for task in sorted(wrong) for i in range(wrong[task])]
    return SampleStore.build(tuple(sorted(right)), samples)


STORE = store_of()


def plan(
    negatives: NegativesConfig,
    store: SampleStore | None = None,
    batch: int = 8,
    seed: int = 0,
    roles: Roles = ROLES,
    max_steps: int | None = None,
    **mixture: Any,
) -> PhasePlan:
    settings = MixtureConfig(negatives=negatives, **({"epochs": 1} | mixture))
    return plan_phase("mix", settings, roles, store or STORE, batch, seed, None, max_steps)


def signs(planned: PhasePlan) -> np.ndarray:
    return planned.store.signs[planned.rows]


def test_without_a_share_they_are_no_part_of_a_phase() -> None:
    planned = plan(NegativesConfig())
    assert (signs(planned) == 1).all()
    assert {task: use.available for task, use in planned.use().items()} == {"code": 60, "qa": 90}


@given(
    share=st.floats(0.01, 0.6),
    start=st.floats(0, 0.5),
    batch=st.integers(1, 16),
    epochs=st.floats(0.1, 3),
    order=st.sampled_from(Order),
    pairs=st.booleans(),
)
def test_their_number_and_place_and_that_the_others_keep_their_order(
    share: float, start: float, batch: int, epochs: float, order: Order, pairs: bool
) -> None:
    config = NegativesConfig(share=share, start=start, pairs=pairs)
    planned = plan(config, batch=batch, epochs=epochs, order=order, block_rows=4)
    without = plan(NegativesConfig(), batch=batch, epochs=epochs, order=order, block_rows=4)
    negative = signs(planned) < 0
    right = planned.rows[~negative]
    assert right.tolist() == without.rows.tolist()
    assert abs(negative.sum() - share * len(right)) <= 1
    places = np.flatnonzero(negative)
    if planned.steps > 1 and len(places):
        # The room in the last, short step may not do for all of them.
        first = min(int(np.ceil(start * planned.steps - 1e-9)), planned.steps - 1) * batch
        assert places[0] >= min(first, len(right))
    if not pairs and len(places):
        assert np.diff(places).max(initial=0) - np.diff(places).min(initial=10**6) <= 1
    # None comes twice before all came once.
    times = Counter(planned.rows[negative].tolist())
    assert max(times.values(), default=0) <= -(-int(negative.sum()) // sum(WRONG.values()))


def test_steps_and_their_bound_count_negatives_too() -> None:
    for length in ({"epochs": None, "steps": 12}, {"epochs": 20, "max_steps": 12}):
        planned = plan(NegativesConfig(share=0.25), **length)
        assert len(planned.rows) == 96
        assert (signs(planned) < 0).sum() == 19  # a fifth
    tokens = plan(NegativesConfig(share=0.25), epochs=None, tokens=400)
    assert len(tokens.rows) == 100, "of four tokens each"


def test_tasks_are_alike_as_far_as_they_have_negatives() -> None:
    use = plan(NegativesConfig(share=0.1)).use()  # 15 of 150
    assert {task: one.negatives for task, one in use.items()} == {"code": 8, "qa": 7}
    use = plan(NegativesConfig(share=0.3)).use()  # 45: code has 12
    assert {task: one.negatives for task, one in use.items()} == {"code": 12, "qa": 33}
    use = plan(NegativesConfig(share=0.4)).use()  # 60: all 52, and 8 again
    assert {task: one.negatives for task, one in use.items()} == {"code": 16, "qa": 44}
    assert (use["qa"].rows, use["qa"].distinct, use["qa"].answer_tokens) == (90, 90, 180)
    assert use["qa"].tokens == (90 + 44) * 4


def test_general_tasks_give_none() -> None:
    store = store_of(wrong={"chat": 9, "qa": 9})
    roles = Roles(("qa",), ("code",), ("chat",))
    mixture = {"replay": 0.2, "rest_share": 0.2}
    use = plan(NegativesConfig(share=0.5), store, roles=roles, **mixture).use()
    assert [task for task, one in use.items() if one.negatives] == ["qa"]


def test_no_negatives_to_draw_is_a_fault() -> None:
    with pytest.raises(DataFault) as caught:
        plan(NegativesConfig(share=0.1), store_of(wrong={"chat": 3}))
    (fault,) = caught.value.faults
    assert fault.where == "curriculum.phases.mix.negatives.share"
    assert "data.negatives.cross_task=0.1" in fault.remedy


def parted(planned: PhasePlan) -> tuple[int, int]:
    """Negatives in a step without their right answer, and those with it."""
    keys = planned.store.request_keys
    apart = together = 0
    for step in range(planned.steps):
        rows = planned.step_rows(step)
        right = set(keys[rows[planned.store.signs[rows] > 0]].tolist())
        for row in rows[planned.store.signs[rows] < 0]:
            together += int(keys[row]) in right
            apart += int(keys[row]) not in right
    return apart, together


def test_pairs_share_a_step() -> None:
    alone = plan(NegativesConfig(share=0.3, start=0.0))
    assert parted(alone)[0] > 30
    for seed in range(5):
        planned = plan(NegativesConfig(share=0.3, start=0.0, pairs=True), seed=seed)
        apart, together = parted(planned)
        assert apart + together == 45
        # Only a right answer that ends a step cannot keep its negative: one row in eight.
        assert apart <= 12
    wide = plan(NegativesConfig(share=0.3, start=0.0, pairs=True), batch=64)
    assert parted(wide)[0] <= 2


def test_pairs_that_a_border_parts_trade_places_with_lone_negatives() -> None:
    # Every second negative has no right answer in the phase: there is always one to trade with.
    def made() -> SampleStore:
        right = [Sample("qa", [1, i, 3], np.arange(3) > 1, request_key=i + 1) for i in range(200)]
        wrong = [
            Sample("qa", [2, i, 3], np.arange(3) > 1, sign=-1, request_key=i + 1 if i % 2 else 0)
            for i in range(200)
        ]
        return SampleStore.build(("qa",), right + wrong)

    roles = Roles(("qa",), (), ())
    config = NegativesConfig(share=1.0, start=0.0, pairs=True)
    apart, together = parted(plan(config, made(), 16, roles=roles))
    assert together + apart == 200
    assert together >= 98, "of the hundred that have one"


def test_pairs_prefer_negatives_whose_answer_is_drawn() -> None:
    # 20 of 90 right rows are drawn, and 6 negatives: of the 40 there are, nine or so have a partner.
    roles = Roles(("qa",), (), ())
    config = NegativesConfig(share=0.3, start=0.0, pairs=True)
    planned = plan(config, roles=roles, epochs=20 / 90, batch=26)
    assert (signs(planned) < 0).sum() == 6
    assert parted(planned) == (0, 6)


def test_another_task_or_seed() -> None:
    def negatives(planned: PhasePlan, task: str) -> list[int]:
        rows = planned.rows[signs(planned) < 0]
        rows = rows[planned.store.task_ids[rows] == planned.store.tasks.index(task)]
        return [int(planned.store.tokens(int(row))[0][1]) for row in rows]

    before = plan(NegativesConfig(share=0.1))
    store = store_of({**RIGHT, "algebra": 50}, {**WRONG, "algebra": 10})
    after = plan(NegativesConfig(share=0.1), store, roles=Roles(("algebra", "code", "qa"), (), ()))
    for task in ("code", "qa"):
        one, other = negatives(before, task), negatives(after, task)
        # Their number follows that of all rows; which come first does not.
        assert set(one) <= set(other) or set(other) <= set(one)
        assert set(negatives(plan(NegativesConfig(share=0.1), seed=1), task)) != set(one)


def test_the_same_plan_again() -> None:
    config = NegativesConfig(share=0.3, pairs=True)
    assert plan(config).rows.tolist() == plan(config).rows.tolist()
    assert plan(config).fingerprint() != plan(NegativesConfig(share=0.3)).fingerprint()
