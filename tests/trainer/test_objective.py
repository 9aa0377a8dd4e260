"""Loss weights: the three normalisations against values computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.config.schema import Normalization
from trainer.objective import row_weights

TASKS = ("chat", "code", "qa")
# Rows of one step: code with 2 and 6 answer tokens, qa with 4.
IDS = np.array([1, 1, 2])
ANSWERS = np.array([2, 6, 4])


def weights(
    normalization: Normalization,
    alphas: dict[str, float] | None = None,
    phase_tasks: tuple[str, ...] = ("code", "qa"),
) -> list[float]:
    return row_weights(normalization, alphas or {}, phase_tasks, TASKS, IDS, ANSWERS).tolist()


@pytest.mark.parametrize(
    ("normalization", "alphas", "expected"),
    [
        # 12 tokens in all
        ("token", {}, [1 / 12, 1 / 12, 1 / 12]),
        # sum of alpha over tokens: 3 * 8 + 1 * 4 = 28
        ("token", {"code": 3.0}, [3 / 28, 3 / 28, 1 / 28]),
        # 1 / (3 answers * own length)
        ("sample", {}, [1 / 6, 1 / 18, 1 / 12]),
        # sum of alpha over answers: 3 + 3 + 1 = 7
        ("sample", {"code": 3.0}, [3 / 14, 3 / 42, 1 / 28]),
        # code has 8 tokens, qa 4; the alphas of the phase's two tasks sum to 2
        ("task", {}, [1 / 16, 1 / 16, 1 / 8]),
        ("task", {"code": 3.0}, [3 / 32, 3 / 32, 1 / 16]),
        ("task", {"code": 0.0}, [0.0, 0.0, 1 / 4]),
    ],
)
def test_by_hand(normalization: str, alphas: dict[str, float], expected: list[float]) -> None:
    assert weights(Normalization[normalization], alphas) == pytest.approx(expected, rel=1e-12)


def test_an_absent_task_adds_nothing_and_is_not_made_up_for() -> None:
    # chat belongs to the phase but not to this step: the others keep a third each.
    got = weights(Normalization.task, phase_tasks=TASKS)
    assert got == pytest.approx([1 / 24, 1 / 24, 1 / 12])
    assert float(np.array(got) @ ANSWERS) == pytest.approx(2 / 3)
    weighty = weights(Normalization.task, {"chat": 2.0}, phase_tasks=TASKS)
    assert float(np.array(weighty) @ ANSWERS) == pytest.approx(1 / 2)
    # The other two are means over what the step has.
    for normalization in (Normalization.token, Normalization.sample):
        assert weights(normalization, phase_tasks=TASKS) == weights(normalization)


def test_weights_of_tasks_outside_the_phase_do_not_count() -> None:
    assert weights(Normalization.task, {"chat": 50.0}) == weights(Normalization.task)


ROWS = st.lists(st.tuples(st.integers(0, 2), st.integers(1, 500)), min_size=1, max_size=60)
ALPHAS = st.fixed_dictionaries({task: st.floats(0.01, 100) for task in TASKS})


@given(rows=ROWS, alphas=ALPHAS, normalization=st.sampled_from(Normalization))
def test_all_weights_of_a_step_sum_to_one(
    rows: list[tuple[int, int]], alphas: dict[str, float], normalization: Normalization
) -> None:
    ids, answers = (np.array(column) for column in zip(*rows, strict=True))
    present = tuple(TASKS[i] for i in sorted(set(ids.tolist())))
    got = row_weights(normalization, alphas, present, TASKS, ids, answers)
    assert got.dtype == np.float64
    assert float(got @ answers) == pytest.approx(1.0, rel=1e-12)
    assert (got > 0).all()


@given(rows=ROWS, alphas=ALPHAS, normalization=st.sampled_from(Normalization), data=st.data())
def test_the_order_of_rows_does_not_matter(
    rows: list[tuple[int, int]],
    alphas: dict[str, float],
    normalization: Normalization,
    data: st.DataObject,
) -> None:
    # What makes the loss independent of layout and world size.
    ids, answers = (np.array(column) for column in zip(*rows, strict=True))
    at = np.array(data.draw(st.permutations(range(len(rows)))))
    one = row_weights(normalization, alphas, TASKS, TASKS, ids, answers)
    two = row_weights(normalization, alphas, TASKS, TASKS, ids[at], answers[at])
    np.testing.assert_allclose(two, one[at], rtol=1e-12)


@pytest.mark.parametrize("normalization", Normalization)
def test_a_step_of_weightless_tasks_has_weight_zero(normalization: Normalization) -> None:
    # Not 0 / 0.
    assert weights(normalization, {"code": 0.0, "qa": 0.0}) == [0.0, 0.0, 0.0]
