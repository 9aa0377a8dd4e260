"""The guard's judgements: limits over changing mixtures, and what becomes of a bad step."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from trainer.config.schema import FaultsConfig, OnNonFinite, OnSpike
from trainer.engine import StepFigures
from trainer.guard.guard import Action, Guard, Kind, Verdict
from trainer.guard.limit import NO_LIMIT, Limit
from trainer.guard.loss_history import FIRST_STEPS

TASKS = ("code", "math", "qa")
TOKENS = {"code": 10, "qa": 30}


def figures(
    losses: dict[str, float],
    tokens: dict[str, int] = TOKENS,
    grad_norm: float = 1.0,
    skipped: bool = False,
    loss: float | None = None,
) -> StepFigures:
    """A step whose tasks lose so much per token; its loss is the token mean."""
    nll = [losses.get(task, 0.0) * tokens.get(task, 0) for task in TASKS]
    mean = sum(nll) / sum(tokens.values()) if loss is None else loss
    return StepFigures(nll, [0.0] * 3, [0.0] * 3, mean, grad_norm, skipped)


class Trained:
    """A guard after some sound steps, and its next steps."""

    def __init__(self, steps: int = FIRST_STEPS, **config: Any) -> None:
        self.guard = Guard(FaultsConfig(**config), TASKS)
        self.step = 0
        for _ in range(steps):
            assert self.next({"code": 1.0, "qa": 4.0}) is None

    def next(
        self, losses: dict[str, float], tokens: dict[str, int] = TOKENS, **how: Any
    ) -> Verdict | None:
        """Judge a step as the loop does; the device vetoes as it would."""
        self.step += 1
        limit = self.guard.limit_for(tokens)
        found = figures(losses, tokens, **how)
        bad = not (math.isfinite(found.loss + sum(found.nll)) and math.isfinite(found.grad_norm))
        bad |= limit.enforced and limit.watched(found.nll) > limit.most
        return self.guard.judge(self.step, found._replace(skipped=bad), tokens, limit)

    def bad(self, **how: Any) -> Verdict:
        found = self.next({"code": 1.0, "qa": 4.0}, grad_norm=math.inf, **how)
        assert found is not None
        return found

    def fine(self) -> None:
        assert self.next({"code": 1.0, "qa": 4.0}) is None


def test_the_limit_follows_the_mixture_of_the_step() -> None:
    guard = Trained(spike_factor=2.0, spike_margin=1.5).guard
    # qa: twice 4.0 is more than 4.0 + 1.5; code: 1.0 + 1.5 is more than twice 1.0
    for tokens, watched, expected, most in (
        ({"qa": 5}, (2,), 20.0, 40.0),
        ({"code": 8}, (0,), 8.0, 20.0),
        ({"code": 8, "qa": 5}, (0, 2), 28.0, 60.0),
        ({"code": 8, "qa": 5, "math": 50}, (0, 2), 28.0, 60.0),  # never seen, so not watched
    ):
        limit = guard.limit_for(tokens)
        assert limit.task_ids == watched
        assert limit.tokens == sum(tokens[TASKS[task]] for task in watched)
        assert (limit.expected, limit.most) == pytest.approx((expected, most))
    assert guard.limit_for({"math": 7}) is NO_LIMIT


def test_nothing_is_watched_before_there_is_a_history_or_where_nobody_asks() -> None:
    assert Trained(FIRST_STEPS - 1).guard.limit_for(TOKENS) is NO_LIMIT
    assert Trained(spike=OnSpike.none).guard.limit_for(TOKENS) is NO_LIMIT


@pytest.mark.parametrize(
    ("spike", "enforced"),
    [(OnSpike.warn, False), (OnSpike.skip, True), (OnSpike.rollback, True), (OnSpike.stop, True)],
)
def test_a_warning_alone_vetoes_nothing(spike: OnSpike, enforced: bool) -> None:
    trained = Trained(spike=spike)
    assert trained.guard.limit_for(TOKENS).enforced is enforced
    # mean 3.25 before, 6.83 is past factor and margin of both
    found = trained.next({"code": 2.6, "qa": 8.1})
    assert found is not None
    assert (found.kind, found.action.value) == (Kind.spike, spike.value)
    assert found.step == FIRST_STEPS + 1
    assert "lose 6.72 nats, where their tasks lately lost 3.25 and 6.62 is the most" in found.why


def test_below_the_limit_all_is_fine() -> None:
    trained = Trained(spike=OnSpike.stop)
    assert trained.next({"code": 2.4, "qa": 7.9}) is None


def test_only_what_was_trained_on_becomes_history() -> None:
    skips, warns = Trained(spike=OnSpike.skip), Trained(spike=OnSpike.warn)
    before = skips.guard.limit_for(TOKENS).expected
    for one in (skips, warns):
        found = one.next({"code": 9.0, "qa": 9.0})
        assert found is not None
    assert skips.guard.limit_for(TOKENS).expected == before
    assert warns.guard.limit_for(TOKENS).expected > before
    assert skips.bad().action is Action.skip
    assert skips.guard.limit_for(TOKENS).expected == before


@pytest.mark.parametrize(
    ("how", "kind", "why"),
    [
        ({"loss": math.nan}, Kind.loss, "the loss is nan"),
        ({"loss": math.nan, "grad_norm": math.inf}, Kind.loss, "the loss is nan"),
        ({"grad_norm": math.inf}, Kind.gradient, "the gradient is not finite"),
        ({"grad_norm": math.nan}, Kind.gradient, "the loss of 3.25 is"),
    ],
)
def test_what_is_not_finite_is_told_apart(how: dict[str, float], kind: Kind, why: str) -> None:
    found = Trained().next({"code": 1.0, "qa": 4.0}, **how)
    assert found is not None
    assert (found.kind, found.action) == (kind, Action.skip)
    assert why in found.why


def test_the_task_of_a_non_finite_loss_is_named() -> None:
    found = Trained().next({"code": math.nan, "qa": 4.0})
    assert found is not None
    assert found.why == "the loss is nan (of code)"


def test_one_bad_step_too_many_in_a_row_stops() -> None:
    trained = Trained(most_skips=2)
    for _ in range(2):
        assert [trained.bad().action for _ in range(2)] == [Action.skip] * 2
        trained.fine()
    assert [trained.bad().action for _ in range(2)] == [Action.skip] * 2
    last = trained.bad()
    assert last.action is Action.stop
    assert "2 bad steps in a row were skipped" in last.stops_because


def test_spikes_and_non_finite_steps_count_together() -> None:
    trained = Trained(spike=OnSpike.skip, most_skips=1)
    assert trained.bad().action is Action.skip
    found = trained.next({"code": 9.0, "qa": 9.0})
    assert found is not None
    assert (found.kind, found.action) == (Kind.spike, Action.stop)


def test_a_spike_that_is_trained_on_ends_the_row() -> None:
    trained = Trained(spike=OnSpike.warn, most_skips=1)
    assert trained.bad().action is Action.skip
    found = trained.next({"code": 9.0, "qa": 9.0})
    assert found is not None
    assert found.action is Action.warn
    assert trained.bad().action is Action.skip


def test_no_skip_at_all_and_stopping_at_once() -> None:
    assert Trained(most_skips=0).bad().action is Action.stop
    found = Trained(nonfinite=OnNonFinite.stop).bad()
    assert (found.action, found.pass_over) == (Action.stop, ())
    assert "ends the run" in found.stops_because


@pytest.mark.parametrize(
    ("before", "passed"), [(0, (11,)), (1, (10, 11)), (40, tuple(range(1, 12)))]
)
def test_a_rollback_passes_over_the_bad_step_and_those_before(
    before: int, passed: tuple[int, ...]
) -> None:
    trained = Trained(nonfinite=OnNonFinite.rollback, rollback_before=before)
    found = trained.bad()
    assert (found.action, found.step, found.pass_over) == (Action.rollback, 11, passed)


def test_rolling_back_takes_the_history_back_and_is_counted_for_good() -> None:
    trained = Trained(nonfinite=OnNonFinite.rollback, most_rollbacks=2)
    saved = json.loads(json.dumps(trained.guard.state()))
    expected = trained.guard.limit_for(TOKENS).expected
    for _ in range(2):
        assert trained.next({"code": 2.0, "qa": 5.0}) is None
        assert trained.bad().action is Action.rollback
        assert trained.guard.limit_for(TOKENS).expected > expected
        trained.guard.roll_back(saved)
        assert trained.guard.limit_for(TOKENS).expected == expected
    last = trained.bad()
    assert (last.action, last.pass_over) == (Action.stop, ())
    assert "was rolled back 2 times" in last.stops_because


def test_rolling_back_to_the_beginning() -> None:
    trained = Trained(nonfinite=OnNonFinite.rollback, most_rollbacks=1)
    assert trained.bad().action is Action.rollback
    trained.guard.roll_back(None)
    assert trained.guard.limit_for(TOKENS) is NO_LIMIT
    assert trained.guard.skipped_steps == []
    assert trained.bad().action is Action.stop


def test_it_goes_on_from_its_state() -> None:
    first = Trained(most_skips=2, spike=OnSpike.skip)
    assert first.bad().action is Action.skip
    second = Guard(first.guard.config, TASKS)
    second.restore(json.loads(json.dumps(first.guard.state())))
    assert second.limit_for(TOKENS) == first.guard.limit_for(TOKENS)
    assert second.skipped_steps == [FIRST_STEPS + 1]
    first.guard = second
    assert [first.bad().action for _ in range(2)] == [Action.skip, Action.stop]


def test_the_device_and_the_host_must_agree() -> None:
    guard = Trained().guard
    with pytest.raises(AssertionError):
        guard.judge(1, figures({"qa": 1.0}, skipped=True), TOKENS, Limit(enforced=False))
