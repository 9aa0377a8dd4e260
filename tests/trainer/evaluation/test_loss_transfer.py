"""Transfer of a phase to every task's loss, against a table worked out by hand."""

from __future__ import annotations

import pytest

from trainer.evaluation.loss_transfer import loss_transfer
from trainer.evaluation.results import Evaluation, TaskResult


def run(losses: dict[str, dict[str, float]]) -> dict[str, Evaluation]:
    return {
        column: Evaluation({task: TaskResult(8, loss, False) for task, loss in of.items()})
        for column, of in losses.items()
    }


LOSSES = {
    "initial": {"a": 2.0, "b": 4.0, "c": 1.0},
    "one": {"a": 1.0, "b": 3.0, "c": 1.5},
    "two": {"a": 1.2, "b": 0.6, "c": 0.0},
}


def test_by_hand() -> None:
    one, two = loss_transfer(run(LOSSES), {"one": ["a"], "two": ["b", "c"]})
    assert [one.phase, two.phase] == ["one", "two"]
    assert [one.trained_on, two.trained_on] == [["a"], ["b", "c"]]
    assert one.transfer == pytest.approx({"a": 0.5, "b": 0.25, "c": -0.5})
    assert one.loss_change == pytest.approx({"a": -1.0, "b": -1.0, "c": 0.5})
    assert one.to_others == pytest.approx((0.25 - 0.5) / 2)
    assert two.transfer == pytest.approx({"a": -0.2, "b": 0.8, "c": 1.0})
    assert two.to_others == pytest.approx(-0.2)


def test_a_phase_on_everything_has_no_others() -> None:
    one, two = loss_transfer(run(LOSSES), {"one": ["a", "b", "c"]})
    assert one.to_others is None
    assert two.trained_on == []
    assert two.to_others == pytest.approx((-0.2 + 0.8 + 1.0) / 3)


def test_tasks_that_came_later_and_a_loss_of_nothing() -> None:
    columns = {"one": {"a": 0.0}, "two": {"a": 0.5, "new": 1.0}}
    (found,) = loss_transfer(run(columns), {"two": ["new"]})
    assert found.transfer == {"a": 0.0}
    assert found.loss_change == {"a": 0.5}
    assert loss_transfer({}, {}) == []
