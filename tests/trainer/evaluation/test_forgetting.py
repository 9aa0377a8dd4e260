"""Forgetting, backward transfer and what a phase did, against matrices worked out by hand."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from trainer.evaluation.forgetting import Forgetting, forgetting, trained_tasks
from trainer.evaluation.results import Evaluation, Figure, SetResult, TaskResult, share

NONE_IN_FORMAT = share(0, 10)


def result(
    score: Figure | float | None, loss: float = 1.0, general: bool = False, half: float = 0.05
) -> TaskResult:
    """A task's result; a number gets an interval of ``half`` to both sides."""
    if isinstance(score, float):
        score = Figure(score, score - half, score + half, 40)
    sets = {}
    if score is not None:
        figures = {"f1": score}
        sets["ordinary"] = SetResult(40, {}, figures, 0, NONE_IN_FORMAT, NONE_IN_FORMAT)
    return TaskResult(40, loss, general, "" if score is None else "f1", sets)


def run(columns: dict[str, dict[str, TaskResult]]) -> dict[str, Evaluation]:
    return {name: Evaluation(tasks) for name, tasks in columns.items()}


# R[p][i], and losses beside it
THREE = {
    "one": {"a": result(0.9, 0.2), "b": result(0.3, 1.5), "c": result(0.1, 2.0)},
    "two": {"a": result(0.6, 0.5), "b": result(0.8, 0.4), "c": result(0.2, 1.8)},
    "three": {"a": result(0.5, 0.9), "b": result(0.7, 0.3), "c": result(0.9, 0.1)},
}
TRAINED = {"one": ["a"], "two": ["b"], "three": ["c"]}


@pytest.fixture(scope="module")
def three() -> Forgetting:
    return forgetting(run(THREE), TRAINED)


def test_three_by_three_by_hand(three: Forgetting) -> None:
    assert {task: one.forgotten for task, one in three.score.items()} == pytest.approx(
        {"a": 0.4, "b": 0.1, "c": -0.7}
    )
    assert {task: one.best_column for task, one in three.score.items()} == {
        "a": "one",
        "b": "two",
        "c": "two",
    }
    # ((0.5 - 0.9) + (0.7 - 0.8)) / 2
    assert three.backward_transfer == pytest.approx(-0.25)
    assert three.backward_transfer_of == pytest.approx({"a": -0.4, "b": -0.1})
    # 0.9 - 0.2, 0.3 - 0.4, 0.1 - 1.8
    assert {task: one.forgotten for task, one in three.loss.items()} == pytest.approx(
        {"a": 0.7, "b": -0.1, "c": -1.7}
    )
    assert three.backward_transfer_loss == pytest.approx((0.7 - 0.1) / 2)


def test_intervals_tell_real_forgetting(three: Forgetting) -> None:
    # 0.9 and 0.5 are 0.4 apart; 0.8 and 0.7 meet at 0.75
    assert three.score["a"].disjoint is True
    assert three.score["b"].disjoint is False
    assert three.loss["a"].disjoint is None


def test_which_phase_hurt_which_task(three: Forgetting) -> None:
    by_pair = {(one.phase, one.task): one for one in three.effects}
    assert list(by_pair) == [(phase, task) for phase in ("two", "three") for task in "abc"]
    hurt = by_pair["two", "a"]
    assert (hurt.score_before, hurt.score_after) == (0.9, 0.6)
    assert hurt.score_change == pytest.approx(-0.3)
    assert hurt.loss_change == pytest.approx(0.3)
    assert [hurt.disjoint, hurt.trained, hurt.hurt] == [True, False, True]
    # a fell by 0.1 in the third, which its intervals allow
    assert [by_pair["three", "a"].disjoint, by_pair["three", "a"].hurt] == [False, False]
    assert by_pair["three", "c"].trained
    assert not by_pair["three", "c"].hurt
    assert [one.phase for one in three.hurt_by("a")] == ["two"]
    assert three.hurt_by("b") == []


def test_one_after_the_other_without_replay() -> None:
    """After each phase of the pilot's sequential run, every task but the current one is at 0.00."""
    names = [f"t{number}" for number in range(10)]
    scores = dict(zip(names, [0.75, 1.0, 0.6, 0.5, 0.9, 0.8, 0.7, 0.65, 0.95, 0.75], strict=True))
    columns = {
        name: {task: result(scores[task] if task == name else 0.0) for task in names}
        for name in names
    }
    found = forgetting(run(columns), {name: [name] for name in names})
    learned = [scores[name] for name in names[:-1]]
    assert found.backward_transfer == pytest.approx(-sum(learned) / 9)
    assert {task: one.forgotten for task, one in found.score.items()} == pytest.approx(
        {**scores, names[-1]: -scores[names[-1]]}
    )
    assert all(found.score[task].best_column == task for task in names[:-1])
    for before, phase in zip(names, names[1:], strict=False):
        hurt = [one.task for one in found.effects if one.phase == phase and one.hurt]
        assert hurt == [before]


def test_a_task_counts_from_the_first_phase_that_trains_on_it() -> None:
    columns = {
        "initial": {"a": result(0.1), "b": result(0.9)},
        "mix": {"a": result(0.5), "b": result(0.4)},
        "hard": {"a": result(0.6), "b": result(0.3)},
    }
    found = forgetting(run(columns), {"mix": ["a"], "hard": ["a", "b"]})
    assert found.backward_transfer_of == pytest.approx({"a": 0.1})
    assert found.score["b"].forgotten == pytest.approx(0.6)
    assert found.score["b"].best_column == "initial"


def test_tasks_without_a_metric_go_by_loss() -> None:
    columns = {
        "one": {"chat": result(None, 1.0), "qa": result(0.5)},
        "two": {"chat": result(None, 1.25), "qa": result(0.5)},
    }
    found = forgetting(run(columns), {"one": ["chat", "qa"], "two": ["qa"]})
    assert list(found.score) == ["qa"]
    assert found.loss["chat"].forgotten == pytest.approx(0.25)
    effect = next(one for one in found.effects if one.task == "chat")
    assert [effect.score_change, effect.disjoint, effect.hurt] == [None, None, True]
    assert found.backward_transfer_of == {"qa": 0.0}
    assert found.backward_transfer_loss == pytest.approx(0.125)


def test_general_ability_before_and_after_each_phase() -> None:
    columns = {
        "initial": {"g": result(0.9, 0.5, True), "h": result(None, 1.0, True), "a": result(0.0)},
        "mix": {"g": result(0.8, 0.6, True), "h": result(None, 1.3, True), "a": result(0.5)},
        "hard": {"g": result(0.2, 1.6, True), "h": result(None, 1.1, True), "a": result(0.9)},
    }
    found = forgetting(run(columns), {"mix": ["a", "g"], "hard": ["a"]})
    assert [asdict(one) for one in found.retention] == [
        {
            "phase": "mix",
            "score_before": 0.9,
            "score_after": 0.8,
            "loss_before": pytest.approx(0.75),
            "loss_after": pytest.approx(0.95),
        },
        {
            "phase": "hard",
            "score_before": 0.8,
            "score_after": 0.2,
            "loss_before": pytest.approx(0.95),
            "loss_after": pytest.approx(1.35),
        },
    ]
    # general tasks have their own account and no part in backward transfer
    assert found.backward_transfer_of == pytest.approx({"a": 0.4})


def test_one_evaluation_and_none() -> None:
    alone = forgetting(run({"mix": THREE["one"]}), TRAINED)
    assert [alone.score, alone.loss, alone.effects, alone.retention] == [{}, {}, [], []]
    assert alone.backward_transfer is None
    assert forgetting({}, {}).columns == []


def test_it_is_plain_json(three: Forgetting) -> None:
    assert json.loads(json.dumps(asdict(three)))["score"]["a"]["best_column"] == "one"


def test_what_a_plan_trains_on() -> None:
    plan = {"phases": {"mix": {"tasks": {"a": {}, "b": {}}}, "hard": {"tasks": {"b": {}}}}}
    assert trained_tasks(plan) == {"mix": ["a", "b"], "hard": ["b"]}
