"""Judges every step, and says what becomes of it: pure host logic, the same on all ranks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from trainer.config.schema import FaultsConfig, OnSpike
from trainer.guard.limit import NO_LIMIT, Limit
from trainer.guard.loss_history import LossHistory


class Kind(StrEnum):
    """What is wrong with a step."""

    loss = "non-finite loss"
    gradient = "non-finite gradient"
    spike = "loss spike"


class Action(StrEnum):
    """What becomes of a bad step. Only after ``warn`` has the model taken it in."""

    warn = "warn"
    skip = "skip"
    rollback = "rollback"
    stop = "stop"


class Figures(Protocol):
    """What is judged, of ``trainer.engine.StepFigures``."""

    @property
    def nll(self) -> list[float]: ...
    @property
    def loss(self) -> float: ...
    @property
    def grad_norm(self) -> float: ...
    @property
    def skipped(self) -> bool: ...


@dataclass(frozen=True)
class Verdict:
    """A bad step.

    Attributes:
        step: its global number.
        why: the fault in figures, a full clause.
        stops_because: why the run cannot go on, a full clause; "" where it does.
        pass_over: global steps that are left out for good after a rollback, ascending. The caller
            keeps those behind the checkpoint that it goes back to.
    """

    step: int
    kind: Kind
    action: Action
    loss: float
    grad_norm: float
    limit: Limit
    why: str
    stops_because: str = ""
    pass_over: tuple[int, ...] = ()


class Guard:
    """Bounds the losses of the steps to come by those that were, and judges the steps.

    A step's tasks are its own, so each task's loss is known by itself; a step may lose more than the
    sum of what its tasks usually do, by a factor and a margin. Tasks without enough of a history are
    left out of both sides. Steps that changed nothing do not become history.

    Args:
        tasks: all tasks, as the engine numbers them.
    """

    def __init__(self, config: FaultsConfig, tasks: Sequence[str]) -> None:
        self.config, self.tasks = config, tuple(tasks)
        self._history = LossHistory()
        #: Global steps that were skipped, ascending.
        self.skipped_steps: list[int] = []
        self._in_a_row = 0  # of them, up to now
        self._rollbacks = 0

    def limit_for(self, answer_tokens: Mapping[str, int]) -> Limit:
        """What a step may lose.

        Args:
            answer_tokens: task -> answer tokens of its right answers in the step.
        """
        if self.config.spike is OnSpike.none:
            return NO_LIMIT
        watched, tokens, expected, most = [], 0, 0.0, 0.0
        for number, task in enumerate(self.tasks):
            usual = self._history.expected(task) if task in answer_tokens else None
            if usual is not None:
                count = answer_tokens[task]
                watched.append(number)
                tokens += count
                expected += count * usual
                most += count * max(
                    self.config.spike_factor * usual, usual + self.config.spike_margin
                )
        if not watched:
            return NO_LIMIT
        return Limit(tuple(watched), tokens, expected, most, self.config.spike is not OnSpike.warn)

    def judge(
        self, step: int, figures: Figures, answer_tokens: Mapping[str, int], limit: Limit
    ) -> Verdict | None:
        """What is wrong with a step; None if it is fine.

        Args:
            step: its global number.
            limit: what :meth:`limit_for` said before the step.
        """
        kind = self._kind(figures, limit)
        only_warns = kind is Kind.spike and not limit.enforced
        assert figures.skipped == (kind is not None and not only_warns), "the device judged alike"
        if not figures.skipped:
            nll = {task: figures.nll[self.tasks.index(task)] for task in answer_tokens}
            self._history.add(nll, answer_tokens)
            self._in_a_row = 0
        return None if kind is None else self._verdict(step, kind, figures, limit)

    def _kind(self, figures: Figures, limit: Limit) -> Kind | None:
        if not math.isfinite(figures.loss) or not math.isfinite(sum(figures.nll)):
            return Kind.loss
        if not math.isfinite(figures.grad_norm):
            return Kind.gradient
        # Where the device judged, its word counts: it may have summed in another order.
        if limit.enforced:
            return Kind.spike if figures.skipped else None
        return Kind.spike if limit.watched(figures.nll) > limit.most else None

    def _verdict(self, step: int, kind: Kind, figures: Figures, limit: Limit) -> Verdict:
        config = self.config
        action = Action(
            config.spike.value if kind is Kind.spike else config.nonfinite.value  # the same words
        )
        because, pass_over = "", tuple[int, ...]()
        if action is Action.skip:
            self._in_a_row += 1
            self.skipped_steps.append(step)
            if self._in_a_row > config.most_skips:
                action = Action.stop
                because = f"{config.most_skips} bad steps in a row were skipped (faults.most_skips)"
        elif action is Action.rollback:
            self._rollbacks += 1
            if self._rollbacks > config.most_rollbacks:
                action = Action.stop
                because = (
                    f"the run was rolled back {config.most_rollbacks} times (faults.most_rollbacks)"
                )
            else:
                pass_over = tuple(range(max(1, step - config.rollback_before), step + 1))
        elif action is Action.stop:
            because = "faults says that such a step ends the run"
        return Verdict(
            step,
            kind,
            action,
            figures.loss,
            figures.grad_norm,
            limit,
            self._why(kind, figures, limit),
            because,
            pass_over,
        )

    def _why(self, kind: Kind, figures: Figures, limit: Limit) -> str:
        if kind is Kind.loss:
            tasks = [
                task
                for task, nll in zip(self.tasks, figures.nll, strict=True)
                if not math.isfinite(nll)
            ]
            of_tasks = f" (of {', '.join(tasks)})" if tasks else ""
            return f"the loss is {figures.loss}{of_tasks}"
        if kind is Kind.gradient:
            return f"the gradient is not finite, the loss of {figures.loss:.4g} is"
        count = limit.tokens
        return (
            f"its answer tokens lose {limit.watched(figures.nll) / count:.3g} nats, where their tasks "
            f"lately lost {limit.expected / count:.3g} and {limit.most / count:.3g} is the most"
        )

    def state(self) -> dict[str, Any]:
        """What it remembers, as JSON has it."""
        return {
            "history": self._history.state(),
            "skipped_steps": self.skipped_steps,
            "in_a_row": self._in_a_row,
            "rollbacks": self._rollbacks,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state`, of the same run or of one that it goes on from."""
        self._history.restore(state["history"])
        self.skipped_steps = list(state["skipped_steps"])
        self._in_a_row, self._rollbacks = state["in_a_row"], state["rollbacks"]

    def roll_back(self, state: Mapping[str, Any] | None) -> None:
        """Forget what came behind a checkpoint, but not how often that was done.

        Args:
            state: as the checkpoint has it; None goes back to the beginning.
        """
        rollbacks = self._rollbacks
        self._history, self.skipped_steps, self._in_a_row = LossHistory(), [], 0
        if state is not None:
            self.restore(state)
        self._rollbacks = max(rollbacks, self._rollbacks)
