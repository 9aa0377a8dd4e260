"""Loss weights: the three normalisations against values computed by hand."""

from __future__ import annotations

from typing import Any

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
POSITIVE = np.ones(3, np.int8)


def weights(
    normalization: Normalization,
    alphas: dict[str, float] | None = None,
    phase_tasks: tuple[str, ...] = ("code", "qa"),
) -> list[float]:
    return row_weights(
        normalization, alphas or {}, phase_tasks, TASKS, IDS, ANSWERS, POSITIVE, 0.2
    ).tolist()


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


# task, answer tokens, sign
ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 500), st.sampled_from([1, 1, -1])),
    min_size=1,
    max_size=60,
)
ALPHAS = st.fixed_dictionaries({task: st.floats(0.01, 100) for task in TASKS})


def columns(rows: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, answers, signs = (np.array(column) for column in zip(*rows, strict=True))
    return ids, answers, signs.astype(np.int8)


@given(rows=ROWS, alphas=ALPHAS, normalization=st.sampled_from(Normalization))
def test_all_positive_weights_of_a_step_sum_to_one(
    rows: list[tuple[int, int, int]], alphas: dict[str, float], normalization: Normalization
) -> None:
    ids, answers, signs = columns(rows)
    positive = signs > 0
    present = tuple(TASKS[i] for i in sorted(set(ids[positive].tolist())))
    got = row_weights(normalization, alphas, present or TASKS, TASKS, ids, answers, signs, 0.3)
    assert got.dtype == np.float64
    if positive.any():
        assert float(got[positive] @ answers[positive]) == pytest.approx(1.0, rel=1e-12)
    assert (np.sign(got) == signs).all()


@given(rows=ROWS, alphas=ALPHAS, normalization=st.sampled_from(Normalization))
def test_negatives_do_not_change_the_positives_weights(
    rows: list[tuple[int, int, int]], alphas: dict[str, float], normalization: Normalization
) -> None:
    ids, answers, signs = columns([(0, 3, 1), *rows])
    positive = signs > 0
    got = row_weights(normalization, alphas, TASKS, TASKS, ids, answers, signs, 0.3)
    alone = row_weights(
        normalization, alphas, TASKS, TASKS, ids[positive], answers[positive], signs[positive], 0.3
    )
    np.testing.assert_array_equal(got[positive], alone)


@given(rows=ROWS, alphas=ALPHAS, normalization=st.sampled_from(Normalization), draw=st.data())
def test_the_order_of_rows_does_not_matter(
    rows: list[tuple[int, int, int]],
    alphas: dict[str, float],
    normalization: Normalization,
    draw: st.DataObject,
) -> None:
    # What makes the loss independent of layout and world size.
    ids, answers, signs = columns(rows)
    at = np.array(draw.draw(st.permutations(range(len(rows)))))
    one = row_weights(normalization, alphas, TASKS, TASKS, ids, answers, signs, 0.3)
    two = row_weights(normalization, alphas, TASKS, TASKS, ids[at], answers[at], signs[at], 0.3)
    np.testing.assert_allclose(two, one[at], rtol=1e-12)


@pytest.mark.parametrize("normalization", Normalization)
def test_a_step_of_weightless_tasks_has_weight_zero(normalization: Normalization) -> None:
    # Not 0 / 0.
    assert weights(normalization, {"code": 0.0, "qa": 0.0}) == [0.0, 0.0, 0.0]


# --- negatives: two of code with 1 and 3 tokens, one of chat with 5, beside the rows above

NEGATIVE_IDS = np.array([1, 1, 2, 1, 1, 0])
NEGATIVE_ANSWERS = np.array([2, 6, 4, 1, 3, 5])
SIGNS = np.array([1, 1, 1, -1, -1, -1], np.int8)


def signed(
    normalization: str,
    alphas: dict[str, float] | None = None,
    rows: slice = slice(None),
    weight: float = 0.2,
) -> list[float]:
    return row_weights(
        Normalization[normalization],
        alphas or {},
        TASKS,
        TASKS,
        NEGATIVE_IDS[rows],
        NEGATIVE_ANSWERS[rows],
        SIGNS[rows],
        weight,
    ).tolist()


@pytest.mark.parametrize(
    ("normalization", "alphas", "expected"),
    [
        # a fifth of a positive token, of which there are 12
        ("token", {}, [1 / 12, 1 / 12, 1 / 12, -1 / 60, -1 / 60, -1 / 60]),
        # alpha over positive tokens: 3 * 8 + 4 = 28
        ("token", {"code": 3.0}, [3 / 28, 3 / 28, 1 / 28, -3 / 140, -3 / 140, -1 / 140]),
        # a fifth of a positive answer, of which there are 3, over the answer's own tokens
        ("sample", {}, [1 / 6, 1 / 18, 1 / 12, -1 / 15, -1 / 45, -1 / 75]),
        # code has 8 positive tokens; chat none, so the mean of 8 and 4; alphas sum to 3
        ("task", {}, [1 / 24, 1 / 24, 1 / 12, -1 / 120, -1 / 120, -1 / 90]),
        ("task", {"chat": 2.0}, [1 / 32, 1 / 32, 1 / 16, -1 / 160, -1 / 160, -1 / 60]),
    ],
)
def test_negatives_by_hand(
    normalization: str, alphas: dict[str, float], expected: list[float]
) -> None:
    assert signed(normalization, alphas) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("normalization", "expected"),
    [
        ("token", [-0.2 / 9] * 3),  # 9 negative tokens
        ("sample", [-0.2 / 3, -0.2 / 9, -0.2 / 15]),
        ("task", [-0.2 / 12, -0.2 / 12, -0.2 / 15]),  # 4 of code, 5 of chat; three tasks
    ],
)
def test_a_step_of_negatives_alone_is_normalised_by_them(
    normalization: str, expected: list[float]
) -> None:
    assert signed(normalization, rows=slice(3, None)) == pytest.approx(expected, rel=1e-12)
    # as if its positives were not there where they weigh nothing
    only_chat = signed(normalization, {"code": 0.0, "qa": 0.0})
    assert np.isfinite(only_chat).all()
    assert only_chat[:5] == [0.0] * 5
    assert only_chat[5] < 0


@pytest.mark.parametrize("normalization", ["token", "sample", "task"])
@pytest.mark.parametrize("settings", [{"weight": 0.0}, {"alphas": dict.fromkeys(TASKS, 0.0)}])
def test_negatives_that_weigh_nothing_keep_their_sign(
    normalization: str, settings: dict[str, Any]
) -> None:
    got = np.array(signed(normalization, **settings))
    assert np.signbit(got).tolist() == [False] * 3 + [True] * 3
    assert got[3:].tolist() == [0.0] * 3
