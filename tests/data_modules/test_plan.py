"""The plan: which rows, how many, seeded by names, whatever computes them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.faults import DataFault
from data_modules.mixture import BalanceConfig, MixtureConfig, Order, OrderBy, Strategy
from data_modules.packing import lay_out
from data_modules.phase_plan import PhasePlan
from data_modules.plan import plan_phase
from data_modules.roles import Roles
from data_modules.samples import Sample, SampleStore
from tests.shared_data import made_store

SIZES = {"code": 30, "math": 12, "qa": 50, "sorting": 8, "chat": 40}
TASKS = ("code", "math", "qa")
ROLES = Roles(main=TASKS, rest=(), general=())
WITH_REPLAY = Roles(main=TASKS, rest=(), general=("chat",))
CAPS = BalanceConfig(Strategy.caps, min_rows=20, max_rows=25)


def lengths(**sizes: int) -> dict[str, list[int]]:
    return {task: [5 + i % 7 for i in range(size)] for task, size in sizes.items()}


def plan(
    mixture: MixtureConfig | None = None,
    roles: Roles = ROLES,
    name: str = "mix",
    seed: int = 0,
    batch: int = 8,
    sizes: dict[str, int] | None = None,
    **settings: Any,
) -> PhasePlan:
    """A plan of a phase over made-up samples."""
    store = made_store(lengths(**(sizes or SIZES)))
    mixture = mixture or MixtureConfig(epochs=1)
    return plan_phase(name, mixture, roles, store, batch, seed, **settings)


def rows_by_task(planned: PhasePlan) -> dict[str, list[int]]:
    """Per task, the numbers of its rows (0 = its first row), in training order."""
    result: dict[str, list[int]] = {}
    for row in planned.rows:
        task = planned.store.tasks[planned.store.task_ids[row]]
        result.setdefault(task, []).append(int(row - planned.store.rows_of(task)[0]))
    return result


def drawn(planned: PhasePlan) -> dict[str, Counter[int]]:
    """Per task, how often each of its rows is used."""
    return {task: Counter(rows) for task, rows in rows_by_task(planned).items()}


def counts(planned: PhasePlan) -> dict[str, int]:
    return {task: len(rows) for task, rows in rows_by_task(planned).items()}


# --- how long a phase is


def test_one_natural_epoch_is_every_row_once() -> None:
    planned = plan()
    assert drawn(planned) == {task: Counter(range(SIZES[task])) for task in TASKS}
    assert planned.row_epochs == 1.0


def test_steps_cover_the_rows_and_the_last_holds_the_rest() -> None:
    planned = plan()  # 92 rows
    assert planned.steps == 12
    sizes = [len(planned.step_rows(step)) for step in range(planned.steps)]
    assert sizes == [8] * 11 + [4]
    steps = [planned.step_rows(step) for step in range(planned.steps)]
    assert np.concatenate(steps).tolist() == planned.rows.tolist()
    for outside in (-1, 12):
        with pytest.raises(AssertionError, match="of 12"):
            planned.step_rows(outside)


def test_half_an_epoch_is_half_of_every_task_without_repeats() -> None:
    planned = plan(MixtureConfig(epochs=0.5))
    assert len(planned.rows) == 46
    for task, times in drawn(planned).items():
        assert abs(times.total() - SIZES[task] / 2) <= 1
        assert max(times.values()) == 1
    # Not the heads of the files:
    assert rows_by_task(planned)["qa"] != list(range(25))
    assert max(rows_by_task(planned)["qa"]) > 25


def test_two_and_a_half_epochs_repeat_evenly() -> None:
    planned = plan(MixtureConfig(epochs=2.5))
    assert len(planned.rows) == 230
    for task, times in drawn(planned).items():
        assert set(times.values()) <= {2, 3}
        assert len(times) == SIZES[task]
    # Each of the first two epochs is whole before the next begins, in another order.
    one, two = planned.rows[:92], planned.rows[92:184]
    assert sorted(one) == sorted(two)
    assert one.tolist() != two.tolist()


def test_epochs_of_a_capped_task_draw_anew() -> None:
    mixture = MixtureConfig(epochs=2, balance=CAPS)
    rows = rows_by_task(plan(mixture))["qa"]  # 25 of 50 in each epoch
    first, second = set(rows[:25]), set(rows[25:])
    assert (len(first), len(second)) == (25, 25)
    assert first != second


def test_steps_set_the_length_exactly() -> None:
    planned = plan(MixtureConfig(steps=20))
    assert (planned.steps, len(planned.rows)) == (20, 160)
    assert planned.row_epochs == pytest.approx(160 / 92)
    assert min(drawn(planned)["math"].values()) >= 1


@pytest.mark.parametrize("tokens", [1, 100, 5_000])
def test_tokens_set_the_length_to_a_row(tokens: int) -> None:
    store = made_store({"qa": [10] * 40})
    planned = plan_phase(
        "mix", MixtureConfig(tokens=tokens), Roles(("qa",), (), ()), store, 8, seed=0
    )
    assert planned.use()["qa"].tokens == max(10, tokens)


def test_tokens_of_uneven_rows_are_met_to_one_epochs_rounding() -> None:
    whole = sum(use.tokens for use in plan().use().values())
    twice = plan(MixtureConfig(tokens=2 * whole))
    assert sum(use.tokens for use in twice.use().values()) == 2 * whole
    third = plan(MixtureConfig(tokens=whole // 3))
    used = sum(use.tokens for use in third.use().values())
    # 31 rows of 5 to 11 tokens: the draw's own mean length differs a little from the files'.
    assert used == pytest.approx(whole / 3, rel=0.1)


def test_at_least_one_row() -> None:
    assert len(plan(MixtureConfig(epochs=1e-6)).rows) == 1


def test_max_steps_scales_the_whole_draw_down() -> None:
    for order in Order:
        planned = plan(MixtureConfig(epochs=2, order=order), max_steps=5)
        assert (planned.steps, len(planned.rows)) == (5, 40)
        # The proportions of 30 : 12 : 50, not the head of the order.
        assert counts(planned) == {"code": 13, "math": 5, "qa": 22}
    assert plan(max_steps=1000).rows.tolist() == plan().rows.tolist()


# --- what it is made of


def test_replay_and_rest_are_shares_of_all_rows() -> None:
    roles = Roles(main=("code", "qa"), rest=("math", "sorting"), general=("chat",))
    mixture = MixtureConfig(epochs=1, replay=0.3, rest_share=0.2)
    got = counts(plan(mixture, roles))  # 80 rows are half of the whole
    assert {task: got[task] for task in ("code", "qa")} == {"code": 30, "qa": 50}
    assert got["chat"] == 48
    assert got["math"] == got["sorting"] == 16, "tasks of one role count alike"


@given(epochs=st.floats(0.02, 4), batch=st.integers(1, 9), order=st.sampled_from(Order))
def test_replay_holds_at_any_length_and_nothing_is_lost(
    epochs: float, batch: int, order: Order
) -> None:
    mixture = MixtureConfig(epochs=epochs, replay=0.3, order=order, block_rows=4)
    planned = plan(mixture, WITH_REPLAY, batch=batch)
    assert len(planned.rows) == max(1, round(epochs * 131))  # 92 rows + 39 of replay
    assert planned.steps == -(-len(planned.rows) // batch)
    # Within a row in every epoch begun, of which there are at most five.
    general = counts(planned).get("chat", 0)
    assert abs(general - len(planned.rows) * 39 / 131) < 1 + 1e-6


def test_a_last_epoch_of_one_replay_row() -> None:
    # 10 + 30 replay rows (75 %): the 41st row of ordered phases is a replay row alone.
    roles = Roles(("math",), (), ("chat",))
    for order in (Order.grouped, Order.sequential):
        mixture = MixtureConfig(steps=41, replay=0.75, order=order)
        planned = plan(mixture, roles, batch=1, sizes={"math": 10, "chat": 40})
        assert counts(planned) == {"math": 10, "chat": 31}


def test_grouped_blocks_reach_the_plan() -> None:
    planned = plan(MixtureConfig(epochs=1, order=Order.grouped, block_rows=10))
    tasks = [planned.store.tasks[planned.store.task_ids[row]] for row in planned.rows]
    # code 30 = 3 blocks, math 12 = 10 + 2, qa 50 = 5 blocks
    at = sorted({"code", "math", "qa"})
    assert sorted({tasks[0], tasks[10], tasks[20]}) == at
    for first in (0, 10, 20):
        assert len(set(tasks[first : first + 10])) == 1


def test_sequential_keeps_the_declared_order() -> None:
    roles = Roles(("qa", "code"), (), ("chat",))
    planned = plan(MixtureConfig(epochs=1, order=Order.sequential, replay=0.2), roles)
    tasks = [planned.store.tasks[planned.store.task_ids[row]] for row in planned.rows]
    main = [task for task in tasks if task != "chat"]
    assert main == ["qa"] * 50 + ["code"] * 30
    # 20 replay rows: 12.5 in the first 5/8 of the phase
    assert tasks[: tasks.index("code")].count("chat") in (12, 13)


def test_what_is_used_of_a_task() -> None:
    planned = plan(MixtureConfig(epochs=1, balance=CAPS))
    use = planned.use()
    assert list(use) == list(TASKS), "tasks the phase does not train on are left out"
    math = use["math"]  # 12 rows up-sampled to 20
    assert (math.available, math.rows, math.distinct, math.max_repeats) == (12, 20, 12, 2)
    store = planned.store
    rows = planned.rows[store.task_ids[planned.rows] == store.tasks.index("math")]
    assert math.tokens == sum(len(store.tokens(int(row))[0]) for row in rows)
    assert math.answer_tokens == sum(int(store.tokens(int(row))[1].sum()) for row in rows)
    assert (use["qa"].available, use["qa"].rows, use["qa"].max_repeats) == (50, 25, 1)


def test_tasks_without_rows_are_named_together() -> None:
    roles = Roles(("code", "empty"), (), ("void",))
    store = made_store({"code": [5], "empty": [], "void": []})
    with pytest.raises(DataFault) as caught:
        plan_phase("hard", MixtureConfig(epochs=1, replay=0.1), roles, store, 8, 0)
    assert [(fault.where, fault.seen) for fault in caught.value.faults] == [
        ("curriculum.phases.hard", "task 'empty' has no usable training row"),
        ("curriculum.phases.hard", "task 'void' has no usable training row"),
    ]


# --- rows_per_task


def test_rows_per_task_is_one_choice_for_all_phases_and_epochs() -> None:
    few = [
        plan(MixtureConfig(epochs=3), name=name, rows_per_task=5).use() for name in ("mix", "hard")
    ]
    for use in few:
        assert {task: (one.rows, one.distinct) for task, one in use.items()} == dict.fromkeys(
            TASKS, (15, 5)
        )
    mix, hard = (
        drawn(plan(MixtureConfig(epochs=3), name=name, rows_per_task=5)) for name in ("mix", "hard")
    )
    assert mix == hard


def test_rows_per_task_is_no_head_and_grows_by_adding() -> None:
    few, more = (set(drawn(plan(rows_per_task=n))["qa"]) for n in (5, 20))
    assert few < more
    assert few != set(range(5))
    assert drawn(plan(rows_per_task=20))["math"] == Counter(range(12)), "it has only twelve"
    assert few != set(drawn(plan(rows_per_task=5, seed=1))["qa"])


# --- seeds come from names


def test_another_task_changes_no_other_tasks_rows() -> None:
    mixture = MixtureConfig(epochs=1, balance=CAPS)
    before = drawn(plan(mixture))
    # "algebra" comes first in the store, in the phase and in every sorted list.
    roles = Roles(("algebra", *TASKS), (), ())
    after = drawn(plan(mixture, roles, sizes={"algebra": 33, **SIZES}))
    assert set(after) == {"algebra", *TASKS}
    assert {task: after[task] for task in TASKS} == before
    assert before["qa"] != Counter(range(25)), "else the seed would not matter"


def test_the_order_of_tasks_in_a_phase_changes_no_draw() -> None:
    mixture = MixtureConfig(epochs=1, balance=CAPS)
    assert drawn(plan(mixture, Roles(TASKS[::-1], (), ()))) == drawn(plan(mixture))


@pytest.mark.parametrize("other", [{"seed": 1}, {"name": "hard"}])
def test_another_seed_or_phase_name_changes_every_draw(other: dict[str, Any]) -> None:
    mixture = MixtureConfig(epochs=1, balance=BalanceConfig(Strategy.caps, max_rows=6))
    before, after = drawn(plan(mixture)), drawn(plan(mixture, **other))
    for task in TASKS:
        assert after[task] != before[task]


def test_the_same_arguments_give_the_same_plan() -> None:
    mixture = MixtureConfig(epochs=2.5, balance=CAPS, replay=0.3, order=Order.grouped)
    one, two = plan(mixture, WITH_REPLAY), plan(mixture, WITH_REPLAY)
    assert one.rows.tolist() == two.rows.tolist()
    assert one.fingerprint() == two.fingerprint()


def test_a_longer_phase_begins_with_the_shorter_ones_epochs() -> None:
    one, three = plan(MixtureConfig(epochs=1)), plan(MixtureConfig(epochs=3))
    assert three.rows[:92].tolist() == one.rows.tolist()


# --- fingerprint


def test_the_fingerprint_follows_rows_batch_and_name() -> None:
    mixture = MixtureConfig(epochs=1)
    prints = [
        one.fingerprint()
        for one in (
            plan(mixture),
            plan(mixture, seed=1),
            plan(mixture, batch=4),
            plan(mixture, name="hard"),
            plan(MixtureConfig(epochs=2)),
            plan(mixture, Roles(("code", "qa"), (), ())),
        )
    ]
    assert len(set(prints)) == len(prints)


@pytest.mark.parametrize(("array", "value"), [("token_keys", 7), ("signs", -1)])
def test_the_fingerprint_follows_tokens_and_signs(array: str, value: int) -> None:
    # Tokens and which are supervised show in the token key: see the tests of the store.
    planned = plan()
    before = planned.fingerprint()
    getattr(planned.store, array)[planned.rows[3]] = value
    assert planned.fingerprint() != before


def test_the_fingerprint_ignores_what_the_phase_does_not_train_on() -> None:
    # A whole curriculum's store holds the tasks of all phases; "+phase=x" only those of one.
    alone = plan(sizes={task: SIZES[task] for task in TASKS})
    together = plan(sizes={"algebra": 9, **SIZES})
    assert alone.rows.tolist() != together.rows.tolist(), "rows are numbered through the store"
    assert alone.fingerprint() == together.fingerprint()


# --- every strategy


BALANCES = {
    Strategy.natural: {},
    Strategy.caps: {"min_rows": 10, "max_rows": 30},
    Strategy.weights: {"weights": {"code": 1.0, "math": 2.5, "qa": 4.0}},
    Strategy.temperature: {"temperature": 3.0, "size_limit": 40},
    Strategy.unimax: {"max_repeats": 2.5},
    Strategy.axes: {"importance": {"qa": 2.0}, "difficulty_of": {"code": 1, "math": 2, "qa": 3}},
}
SIZED = st.fixed_dictionaries({task: st.integers(1, 60) for task in (*TASKS, "chat", "sorting")})


@given(
    strategy=st.sampled_from(Strategy),
    sizes=SIZED,
    epochs=st.floats(0.05, 6),
    order=st.sampled_from(Order),
    replay=st.sampled_from([0.0, 0.3]),
    rest=st.sampled_from([0.0, 0.25]),
)
def test_shares_are_met_within_a_row_and_rows_repeat_evenly(
    strategy: Strategy,
    sizes: dict[str, int],
    epochs: float,
    order: Order,
    replay: float,
    rest: float,
) -> None:
    mixture = MixtureConfig(
        epochs=epochs,
        balance=BalanceConfig(strategy, **BALANCES[strategy]),
        order=order,
        block_rows=4,
        replay=replay,
        rest_share=rest,
    )
    roles = Roles(TASKS, ("sorting",) if rest else (), ("chat",) if replay else ())
    planned = plan(mixture, roles, sizes=sizes)
    assert sum(planned.asked.values()) == pytest.approx(1)
    got = drawn(planned)
    total = len(planned.rows)
    assert total == sum(times.total() for times in got.values())
    for task, share in planned.asked.items():
        times = got.get(task, Counter())
        assert abs(times.total() - share * total) < 1 + 1e-6
        # Evenly over the whole phase: floor or ceiling of the mean, nothing twice unless asked.
        assert max(times.values(), default=0) == -(-times.total() // sizes[task])
        if times.total() >= sizes[task]:
            assert len(times) == sizes[task]
        if strategy is Strategy.unimax and task in TASKS:
            assert times.total() <= 2.5 * sizes[task] + 1e-6
    short = planned.asked_epoch_rows - planned.epoch_rows
    assert short == pytest.approx(0) if strategy is not Strategy.unimax else short >= -1e-6


@given(epochs=st.integers(1, 12), order=st.sampled_from(Order))
def test_every_natural_epoch_is_whole(epochs: int, order: Order) -> None:
    planned = plan(MixtureConfig(epochs=epochs, order=order, replay=0.3), WITH_REPLAY)
    assert len(planned.rows) == 131 * epochs
    for epoch in np.split(planned.rows, epochs):
        tasks = planned.store.task_ids[epoch]
        for task in TASKS:
            rows = epoch[tasks == planned.store.tasks.index(task)]
            assert sorted(rows.tolist()) == planned.store.rows_of(task).tolist()


def test_down_sampled_epochs_go_through_all_rows_before_any_comes_again() -> None:
    mixture = MixtureConfig(epochs=4, balance=CAPS)  # 25 of 50 rows an epoch
    assert set(drawn(plan(mixture))["qa"].values()) == {2}
    rows = rows_by_task(plan(mixture))["qa"]
    assert set(rows[:25]) != set(rows[50:75]), "the second round is shuffled anew"


@pytest.mark.parametrize("length", [{"epochs": 8.0}, {"steps": 100}, {"tokens": 10**6}])
def test_unimax_ends_a_phase_that_would_repeat_more(length: dict[str, Any]) -> None:
    balance = BalanceConfig(Strategy.unimax, max_repeats=3)
    planned = plan(MixtureConfig(balance=balance, **length))
    assert counts(planned) == {task: 3 * SIZES[task] for task in TASKS}
    assert {use.max_repeats for use in planned.use().values()} == {3}
    assert planned.epoch_rows < planned.asked_epoch_rows == 92


@given(tokens=st.integers(50, 1200))
def test_unimax_meets_tokens_while_it_can(tokens: int) -> None:
    # Short rows for two tasks, long ones for the third, whose part grows with the phase.
    store = made_store({"code": [4] * 5, "math": [4] * 9, "qa": [9] * 300})
    mixture = MixtureConfig(tokens=tokens, balance=BalanceConfig(Strategy.unimax))
    planned = plan_phase("mix", mixture, ROLES, store, 8, seed=0)
    assert abs(sum(use.tokens for use in planned.use().values()) - tokens) <= 2 * 9


def test_axes_go_by_the_quality_of_the_rows() -> None:
    store = made_store(lengths(**SIZES))
    store.quality[store.rows_of("code")] = 0.25
    store.quality[store.rows_of("qa")[:25]] = 0.5
    mixture = MixtureConfig(epochs=1, balance=BalanceConfig(Strategy.axes))
    factors = plan_phase("mix", mixture, ROLES, store, 8, 0).factors
    # .25, 1 and .75 over their mean
    got = {task: factors[task]["quality"] for task in TASKS}
    assert got == pytest.approx({"code": 0.375, "math": 1.5, "qa": 1.125})


# --- sources


def store_with_sources() -> SampleStore:
    def sample(task: str, index: int) -> Sample:
        source = "rare" if index % 4 == 0 else "plain"
        return Sample(task, [1, index + 2], np.array([False, True]), source=source)

    return SampleStore.build(
        ("code", "qa"), (sample(task, index) for task in ("code", "qa") for index in range(40))
    )


def test_sources_are_drawn_by_their_weight() -> None:
    roles = Roles(("code", "qa"), (), ())
    args = ("mix", MixtureConfig(epochs=1), roles, store_with_sources(), 8, 0)
    weighted = plan_phase(*args, source_weights={"qa/rare": 9.0, "code/rare": 1.0})
    use = weighted.use()
    assert use["qa"].sources == {"rare": 30, "plain": 10}  # 9 x 10 to 1 x 30
    assert use["code"].sources == {}, "its sources weigh alike"
    alike = plan_phase(*args, source_weights={"qa/rare": 3.0, "qa/plain": 3.0})
    assert alike.rows.tolist() == plan_phase(*args).rows.tolist()
    of_code = weighted.store.task_ids[weighted.rows] == 0
    assert (
        weighted.rows[of_code].tolist()
        == alike.rows[alike.store.task_ids[alike.rows] == 0].tolist()
    )
    none = {"qa/rare": 0.0, "qa/plain": 0.0}
    with pytest.raises(DataFault, match="task 'qa' has no usable training row"):
        plan_phase(*args, source_weights=none)


# --- orders


@pytest.mark.parametrize("by", OrderBy)
def test_easy_to_hard_by_each_measure(by: OrderBy, tmp_path: Path) -> None:
    store = made_store(lengths(**SIZES))
    rng = np.random.default_rng(0)
    store.quality[:] = rng.random(len(store))
    losses = rng.random(len(store)).astype(np.float32)
    order = np.argsort(store.row_keys)
    np.savez(tmp_path / "losses.npz", row_keys=store.row_keys[order], losses=losses[order])
    mixture = MixtureConfig(epochs=2, order=Order.easy_to_hard, order_by=by)
    planned = plan_phase("mix", mixture, ROLES, store, 8, 0, row_losses=tmp_path / "losses.npz")
    hardness = {
        OrderBy.length: store.lengths,
        OrderBy.quality: -store.quality,
        OrderBy.loss: losses,
    }[by]
    for epoch in np.split(planned.rows, 2):
        assert (np.diff(hardness[epoch]) >= 0).all()


def test_unusable_losses_are_a_fault(tmp_path: Path) -> None:
    store = made_store(lengths(**SIZES))
    path = tmp_path / "losses.npz"
    mixture = MixtureConfig(epochs=1, order=Order.easy_to_hard, order_by=OrderBy.loss)

    def fault() -> str:
        with pytest.raises(DataFault) as caught:
            plan_phase("mix", mixture, ROLES, store, 8, 0, row_losses=path)
        (found,) = caught.value.faults
        assert found.where == "data.row_losses"
        assert "launch/score.py" in found.remedy
        return found.seen

    assert "cannot be read (FileNotFoundError" in fault()
    path.write_text("no archive", encoding="utf-8")
    assert "cannot be read" in fault()
    np.savez(path, row_keys=np.sort(store.row_keys))
    assert "cannot be read (KeyError" in fault()
    np.savez(path, row_keys=np.arange(3), losses=np.ones(3))
    assert "holds int64 keys (3,) and losses (3,)" in fault()
    keys = np.sort(store.row_keys[store.rows_of("qa")[:-2]])
    np.savez(path, row_keys=keys, losses=np.ones(len(keys)))
    assert "has no loss of 44 of 92 drawn rows" in fault()
    np.savez(path, row_keys=np.sort(store.row_keys), losses=np.full(len(store), np.nan))
    assert "has no loss of 92 of 92 drawn rows" in fault()
    np.savez(path, row_keys=np.empty(0, np.uint64), losses=np.empty(0))
    assert "holds uint64 keys (0,) and losses (0,)" in fault()


@given(
    order=st.sampled_from(Order),
    packing=st.booleans(),
    world=st.sampled_from([1, 2, 4]),
    micro=st.integers(1, 4),
)
def test_packing_keeps_every_step(order: Order, packing: bool, world: int, micro: int) -> None:
    # Whatever computes a step, its rows are the plan's stretch: no declared order is broken.
    mixture = MixtureConfig(epochs=1, order=order, block_rows=4, replay=0.3)
    planned = plan(mixture, WITH_REPLAY)
    for step in range(planned.steps):
        rows = planned.step_rows(step)
        layout = lay_out(planned.store.lengths_of(rows), world, micro, 16, packing)
        placed = [int(one) for micro_step in layout for part in micro_step for one in part]
        assert sorted(placed) == list(range(len(rows)))
        stretch = planned.rows[step * 8 : step * 8 + 8]
        assert sorted(rows[placed].tolist()) == sorted(stretch.tolist())


# --- seeds, once more, of rows in their order


@given(
    order=st.sampled_from(Order),
    strategy=st.sampled_from([Strategy.natural, Strategy.caps]),
    epochs=st.integers(1, 3),
    name=st.sampled_from(["algebra", "zoology"]),
    size=st.integers(1, 60),
    replay=st.booleans(),
)
def test_another_task_changes_no_others_rows_nor_their_order(
    order: Order, strategy: Strategy, epochs: int, name: str, size: int, replay: bool
) -> None:
    mixture = MixtureConfig(
        epochs=epochs,
        order=order,
        block_rows=4,
        balance=BalanceConfig(strategy, **BALANCES[strategy]),
    )
    before = rows_by_task(plan(mixture))
    roles = Roles((*TASKS, name), (), ())
    if replay:
        mixture.replay = 0.2
        roles = Roles(TASKS, (), (name,))
    after = rows_by_task(plan(mixture, roles, sizes={**SIZES, name: size}))
    assert {task: after[task] for task in TASKS} == before
    other = rows_by_task(plan(mixture, roles, seed=1, sizes={**SIZES, name: size}))
    if order is not Order.easy_to_hard:
        assert all(other[task] != before[task] for task in TASKS)


# --- what is saved


def test_a_saved_plan_is_mapped_and_the_same(tmp_path: Path) -> None:
    mixture = MixtureConfig(
        epochs=2.5, replay=0.3, balance=BalanceConfig(Strategy.axes, importance={"qa": 2.0})
    )
    planned = plan(mixture, WITH_REPLAY)
    planned.save(tmp_path / "plan")
    planned.save(tmp_path / "plan")  # who comes second changes nothing
    again = PhasePlan.load(tmp_path / "plan", planned.store)
    assert isinstance(again.rows, np.memmap)
    assert again.rows.dtype == np.int32
    assert again.use() == planned.use()
    assert again.fingerprint() == planned.fingerprint()
    for name in ("name", "row_epochs", "asked", "factors", "epoch_rows", "weighted_sources"):
        assert getattr(again, name) == getattr(planned, name)
    assert [path.name for path in tmp_path.iterdir()] == ["plan"]
    with pytest.raises(DataFault, match="a plan of another store"):
        PhasePlan.load(tmp_path / "plan", made_store({"code": [5]}))


def test_planning_needs_no_torch() -> None:
    code = "import sys, data_modules.plan; print({'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
