"""What tasks lately lost: the smoothing, its beginning, and tasks that come back."""

from __future__ import annotations

import json

import pytest

from trainer.guard.loss_history import FIRST_STEPS, MOST_AWAY, SMOOTHING, LossHistory


def fed(history: LossHistory, steps: int, losses: dict[str, float], tokens: int = 4) -> LossHistory:
    for _ in range(steps):
        nll = {task: loss * tokens for task, loss in losses.items()}
        history.add(nll, dict.fromkeys(losses, tokens))
    return history


def test_a_task_is_known_after_its_first_steps() -> None:
    history = LossHistory()
    assert history.expected("qa") is None
    fed(history, FIRST_STEPS - 1, {"qa": 2.0})
    assert history.expected("qa") is None
    fed(history, 1, {"qa": 2.0, "code": 7.0})
    assert history.expected("qa") == pytest.approx(2.0)
    assert history.expected("code") is None


def test_every_token_counts_alike_and_the_newest_most() -> None:
    history = LossHistory()
    steps = [(3.0, 1), (1.0, 9), (2.0, 2)] * 5
    nll = tokens = 0.0
    for loss, count in steps:
        history.add({"qa": loss * count}, {"qa": count})
        nll, tokens = SMOOTHING * nll + loss * count, SMOOTHING * tokens + count
    assert history.expected("qa") == pytest.approx(nll / tokens)


def test_a_task_that_comes_back_begins_anew() -> None:
    history = fed(LossHistory(), FIRST_STEPS, {"qa": 0.1, "code": 1.0})
    fed(history, MOST_AWAY, {"code": 1.0})
    assert history.expected("qa") == pytest.approx(0.1)
    fed(history, 1, {"code": 1.0})
    assert history.expected("qa") is None
    fed(history, FIRST_STEPS - 1, {"qa": 5.0})
    assert history.expected("qa") is None
    fed(history, 1, {"qa": 5.0})
    assert history.expected("qa") == pytest.approx(5.0), (
        "nothing of what it lost before it was away"
    )


def test_it_goes_on_from_its_state() -> None:
    whole, first = LossHistory(), LossHistory()
    fed(whole, 7, {"qa": 2.0, "code": 3.0})
    fed(first, 7, {"qa": 2.0, "code": 3.0})
    second = LossHistory()
    second.restore(json.loads(json.dumps(first.state())))
    for history in (whole, second):
        fed(history, 9, {"qa": 1.0})
    assert second.state() == whole.state()
    assert second.expected("qa") == whole.expected("qa") is not None
