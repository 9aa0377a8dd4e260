"""What was forgotten: every task through the phases, by its main metric and by its loss.

Columns are evaluations in training order, the first of them usually of the weights a run started from.
With A_i^q the score of task i in column q and P the last one:

- forgetting ``F_i = max_{q<P} A_i^q - A_i^P`` (Chaudhry et al., arXiv 1801.10112); negative where the task
  was never better than it is now. Of losses, which fall, ``l_i^P - min_{q<P} l_i^q``.
- backward transfer ``BWT = mean_i (A_i^P - A_i^{q(i)})`` over the tasks that have been learned before the
  last column, ``q(i)`` being the first phase that trained on i (Lopez-Paz and Ranzato, arXiv 1706.08840,
  where every phase has one task). Negative: later phases hurt what earlier ones taught.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from trainer.evaluation.results import Evaluation, Figure, TaskResult


@dataclass(frozen=True)
class Forgotten:
    """How far a task is from the best that it was.

    Attributes:
        best_column: where it was best before the last column; the first such.
        best, now: score, or loss in nats.
        forgotten: how much worse it is now, in the same unit; negative where it is better.
        disjoint: whether the intervals of ``best`` and ``now`` do not meet; None of losses, which have
            none.
    """

    best_column: str
    best: float
    now: float
    forgotten: float
    disjoint: bool | None


@dataclass(frozen=True)
class PhaseEffect:
    """What one phase did to one task.

    Attributes:
        trained: whether the phase trained on it.
        score_before, score_after, score_change: of the main metric; None where none judges it.
        disjoint: whether the two scores' intervals do not meet; None without scores.
        loss_before, loss_after, loss_change: nats per answer token.
    """

    phase: str
    task: str
    general: bool
    trained: bool
    score_before: float | None
    score_after: float | None
    score_change: float | None
    disjoint: bool | None
    loss_before: float
    loss_after: float
    loss_change: float

    @property
    def hurt(self) -> bool:
        """The score fell by more than both intervals allow for; without scores, the loss rose."""
        if self.score_change is None:
            return self.loss_change > 0
        return self.score_change < 0 and self.disjoint is True


@dataclass(frozen=True)
class Retention:
    """General ability before and after a phase, as means over the general tasks.

    Attributes:
        score_before, score_after: over those with a metric; None where none has one.
        loss_before, loss_after: nats per answer token.
    """

    phase: str
    score_before: float | None
    score_after: float | None
    loss_before: float
    loss_after: float


@dataclass(frozen=True)
class Forgetting:
    """The whole account; ``dataclasses.asdict`` makes it plain.

    Attributes:
        columns: evaluations that it was made of.
        score: task with a metric -> by its main metric; empty with fewer than two columns.
        loss: task -> by its loss.
        backward_transfer: of the specialised tasks' scores; None where no task with a score has been
            learned before the last column.
        backward_transfer_of: task -> its term of that mean.
        backward_transfer_loss: the same of losses, in nats: positive means that later phases hurt.
        effects: by phase, then by task.
        retention: by phase; empty without general tasks.
    """

    columns: list[str]
    score: dict[str, Forgotten]
    loss: dict[str, Forgotten]
    backward_transfer: float | None
    backward_transfer_of: dict[str, float]
    backward_transfer_loss: float | None
    effects: list[PhaseEffect]
    retention: list[Retention]

    def hurt_by(self, task: str) -> list[PhaseEffect]:
        """The phases that hurt a task, the worst first."""
        mine = [one for one in self.effects if one.task == task and one.hurt]
        return sorted(mine, key=lambda one: (one.score_change or 0.0, -one.loss_change))


def forgetting(
    evaluations: Mapping[str, Evaluation], trained: Mapping[str, Collection[str]]
) -> Forgetting:
    """Make the account of a run.

    Args:
        evaluations: column -> evaluation, in training order. Tasks that are not in all of them are
            followed through those that have them.
        trained: phase -> tasks that it trains on; see :func:`trained_tasks`.
    """
    score: dict[str, Forgotten] = {}
    loss: dict[str, Forgotten] = {}
    transfers: dict[str, float] = {}
    loss_transfers: dict[str, float] = {}
    for task in _tasks(evaluations):
        results = {name: one.tasks[task] for name, one in evaluations.items() if task in one.tasks}
        scores = {name: one.score for name, one in results.items() if one.score is not None}
        if len(results) > 1:
            loss[task] = _by_loss(results)
        if len(scores) > 1:
            score[task] = _by_score(scores)
        learned = next((name for name in results if task in trained.get(name, ())), None)
        last = list(evaluations)[-1]
        if learned is None or learned == last or last not in results or results[last].general:
            continue
        loss_transfers[task] = results[last].loss - results[learned].loss
        if learned in scores and last in scores:
            transfers[task] = scores[last].value - scores[learned].value
    return Forgetting(
        list(evaluations),
        score,
        loss,
        _mean(transfers.values()),
        transfers,
        _mean(loss_transfers.values()),
        phase_effects(evaluations, trained),
        _retention(evaluations),
    )


def phase_effects(
    evaluations: Mapping[str, Evaluation], trained: Mapping[str, Collection[str]]
) -> list[PhaseEffect]:
    """What every column but the first did to every task that it and the column before it have."""
    return [
        _effect(
            phase, task, evaluations[before].tasks[task], result, task in trained.get(phase, ())
        )
        for before, phase in pairwise(evaluations)
        for task, result in evaluations[phase].tasks.items()
        if task in evaluations[before].tasks
    ]


def trained_tasks(plan: Mapping[str, Any]) -> dict[str, list[str]]:
    """``plan.json`` -> phase -> the tasks it trains on."""
    return {name: list(phase["tasks"]) for name, phase in plan["phases"].items()}


def disjoint(one: Figure, other: Figure) -> bool:
    """Whether two intervals do not meet."""
    return one.high < other.low or other.high < one.low


def _tasks(evaluations: Mapping[str, Evaluation]) -> list[str]:
    return list(dict.fromkeys(task for one in evaluations.values() for task in one.tasks))


def _by_score(scores: Mapping[str, Figure]) -> Forgotten:
    *earlier, last = scores
    best = max(earlier, key=lambda name: scores[name].value)
    at_best, now = scores[best], scores[last]
    fall = at_best.value - now.value
    return Forgotten(best, at_best.value, now.value, fall, disjoint(at_best, now))


def _by_loss(results: Mapping[str, TaskResult]) -> Forgotten:
    *earlier, last = results
    best = min(earlier, key=lambda name: results[name].loss)
    at_best, now = results[best].loss, results[last].loss
    return Forgotten(best, at_best, now, now - at_best, None)


def _effect(
    phase: str, task: str, before: TaskResult, after: TaskResult, trained: bool
) -> PhaseEffect:
    old, new = before.score, after.score
    return PhaseEffect(
        phase,
        task,
        after.general,
        trained,
        None if old is None else old.value,
        None if new is None else new.value,
        new.value - old.value if old is not None and new is not None else None,
        disjoint(old, new) if old is not None and new is not None else None,
        before.loss,
        after.loss,
        after.loss - before.loss,
    )


def _retention(evaluations: Mapping[str, Evaluation]) -> list[Retention]:
    found = []
    for before, phase in pairwise(evaluations):
        old, new = evaluations[before].general, evaluations[phase].general
        both = [task for task in new if task in old]
        if both:
            old_scores, new_scores = _scores(old, both), _scores(new, both)
            judged = [task for task in both if task in old_scores and task in new_scores]
            found.append(
                Retention(
                    phase,
                    _mean([old_scores[task] for task in judged]),
                    _mean([new_scores[task] for task in judged]),
                    sum(old[task].loss for task in both) / len(both),
                    sum(new[task].loss for task in both) / len(both),
                )
            )
    return found


def _scores(results: Mapping[str, TaskResult], tasks: Sequence[str]) -> dict[str, float]:
    scores = {task: results[task].score for task in tasks}
    return {task: one.value for task, one in scores.items() if one is not None}


def _mean(values: Collection[float]) -> float | None:
    return sum(values) / len(values) if values else None
