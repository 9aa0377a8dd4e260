"""The plan: which rows every optimizer step of every phase trains on.

A pure function of (samples, mixture, seed, global batch size). It knows nothing of ranks,
micro-batches or packing: those only decide where the rows of a step are computed, never which rows
they are. A step is ``global_batch_size`` rows; the last step of a phase holds what is left.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.balance import (
    EpochRows,
    TaskFigures,
    apportion,
    difficulties,
    epoch_rows,
    row_limits,
    with_shares,
)
from data_modules.drawing import Dealer, Pool, few_rows, pool_of
from data_modules.faults import DataFault, Fault
from data_modules.hardness import hardness_of
from data_modules.mixture import MixtureConfig, Order, Strategy
from data_modules.order import easy_to_hard, grouped, mixed, sequential
from data_modules.phase_plan import PhasePlan
from data_modules.plan_negatives import add_negatives, negatives_of
from data_modules.roles import Roles
from data_modules.samples import SampleStore
from data_modules.seeding import generator

Arrange = Callable[[Mapping[str, np.ndarray], int], np.ndarray]


def plan_phase(
    name: str,
    mixture: MixtureConfig,
    roles: Roles,
    store: SampleStore,
    global_batch_size: int,
    seed: int,
    rows_per_task: int | None = None,
    max_steps: int | None = None,
    source_weights: Mapping[str, float] | None = None,
    row_losses: Path | None = None,
) -> PhasePlan:
    """Draw and order the rows of one phase.

    Args:
        rows_per_task: pretend that every task has at most this many rows, chosen by seed in the
            proportions of its sources and languages; negatives are not limited.
        max_steps: scale the draw down to at most this many steps.
        source_weights: ``task/source`` -> how often its rows are drawn relative to those of the
            task's other sources; 1 where absent.
        row_losses: file of losses for ``order_by: loss``; see ``data_modules.hardness``.

    Raises:
        DataFault: a task the phase draws from has no rows, there are no negatives to draw, or a
            file that the balance or the order needs is not usable.
    """
    pools = task_pools(name, roles, store, rows_per_task, seed, source_weights or {})
    share = mixture.negatives.share
    negatives = negatives_of(store, name, roles.main + roles.rest) if share else {}
    length = phase_length(
        name, mixture, roles, store, pools, negatives, global_batch_size, max_steps
    )
    epoch = length.epoch
    rows = _draw(
        length.right_rows,
        epoch.rows,
        length.limits,
        {task: Dealer(pools[task], seed, name, "task", task) for task in epoch.rows},
        _arrange(name, mixture, roles, store, seed, row_losses),
        np.int32 if len(store) < 2**31 else np.int64,
    )
    if length.negative_rows:
        rows = add_negatives(
            *(rows, length.negative_rows, negatives, store, mixture.negatives),
            *(name, seed, global_batch_size),
        )
    return PhasePlan(
        name,
        store,
        rows,
        len(rows) / (epoch.total * (1 + share)),
        global_batch_size,
        asked={task: one / epoch.total for task, one in epoch.rows.items()},
        factors=epoch.factors,
        epoch_rows=epoch.total,
        asked_epoch_rows=epoch.asked,
        weighted_sources=tuple(task for task in epoch.rows if len(pools[task].parts) > 1),
    )


@dataclass(frozen=True)
class PhaseLength:
    """How many rows a phase draws.

    Attributes:
        epoch: rows of every task in an epoch.
        limits: most rows of a task over the whole phase, where the balance sets some.
        right_rows, negative_rows: rows of the phase; fewer only where all tasks are at their limits.
    """

    epoch: EpochRows
    limits: dict[str, int]
    right_rows: int
    negative_rows: int


def phase_length(
    name: str,
    mixture: MixtureConfig,
    roles: Roles,
    store: SampleStore,
    pools: Mapping[str, Pool],
    negatives: Mapping[str, np.ndarray],
    global_batch_size: int,
    max_steps: int | None,
) -> PhaseLength:
    """The rows of a phase and of its epochs, counted but not drawn.

    Args:
        pools: of every task of ``roles``.

    Raises:
        DataFault: a file that the balance needs is not usable.
    """
    share = mixture.negatives.share
    figures = _figures(name, mixture, roles.main, pools, store)

    def epoch_of(epochs: float) -> EpochRows:
        return _with_roles(epoch_rows(figures, mixture.balance, epochs), mixture, roles)

    epochs = _epochs(mixture, epoch_of, pools, negatives, store, global_batch_size)
    epoch = epoch_of(epochs)
    exact = epochs * epoch.total
    if max_steps is not None:
        exact = min(exact, max_steps * global_batch_size / (1 + share))
    right_rows = max(1, round(exact))
    negative_rows = max(0, round(exact * (1 + share)) - right_rows)
    return PhaseLength(epoch, row_limits(figures, mixture.balance), right_rows, negative_rows)


def task_pools(
    name: str,
    roles: Roles,
    store: SampleStore,
    rows_per_task: int | None,
    seed: int,
    source_weights: Mapping[str, float],
) -> dict[str, Pool]:
    """The rows that a phase may draw, by task.

    Raises:
        DataFault: a task has none.
    """
    pools: dict[str, Pool] = {}
    for task in roles.all:
        rows = store.rows_of(task)
        if len(store) < 2**31:
            rows = rows.astype(np.int32)
        weights = {
            source: weight
            for source, weight in source_weights.items()
            if source.startswith(f"{task}/")
        }
        pool = pool_of(store, rows, weights)
        if rows_per_task is not None:
            # The choice is the run's, not the phase's: all phases see the same few rows.
            few = few_rows(store, np.sort(pool.rows), rows_per_task, seed, task)
            pool = pool_of(store, few, weights)
        pools[task] = pool
    _check_not_empty(name, pools)
    return pools


def _check_not_empty(name: str, pools: Mapping[str, Pool]) -> None:
    faults = [
        Fault(
            f"curriculum.phases.{name}",
            f"task '{task}' has no usable training row",
            "every task a phase draws from needs data",
            f"Check data.tasks.{task}.sources and the rejects file, or leave the task out.",
        )
        for task, pool in pools.items()
        if not len(pool)
    ]
    if faults:
        raise DataFault(faults)


def _figures(
    name: str,
    mixture: MixtureConfig,
    main: tuple[str, ...],
    pools: Mapping[str, Pool],
    store: SampleStore,
) -> dict[str, TaskFigures]:
    balance = mixture.balance
    difficulty = difficulties(balance, main, f"curriculum.phases.{name}.balance")
    by_quality = balance.strategy is Strategy.axes
    quality = np.asarray(store.quality)
    return {
        task: TaskFigures(
            len(pools[task]),
            pools[task].once,
            float(quality[pools[task].rows].mean(dtype=np.float64)) if by_quality else 1.0,
            difficulty[task],
        )
        for task in main
    }


def _with_roles(main: EpochRows, mixture: MixtureConfig, roles: Roles) -> EpochRows:
    """Add the phase's other tasks, so that their shares of the whole are met."""
    shares = {"rest": mixture.rest_share if roles.rest else 0.0, "general": mixture.replay}
    added = with_shares(main.total, shares)
    rows = dict(main.rows)
    for role, tasks in (("rest", roles.rest), ("general", roles.general)):
        if added[role]:
            # The tasks of a role count alike: their sizes are what balance is there to undo.
            rows |= dict.fromkeys(tasks, added[role] / len(tasks))
    others = sum(rows.values()) - main.total
    return EpochRows(rows, main.asked + others, main.factors)


def _epochs(
    mixture: MixtureConfig,
    epoch_of: Callable[[float], EpochRows],
    pools: Mapping[str, Pool],
    negatives: Mapping[str, np.ndarray],
    store: SampleStore,
    global_batch_size: int,
) -> float:
    """Epochs of the mixture that the phase is long, before rounding to whole rows."""
    if mixture.epochs is not None:
        return mixture.epochs
    share = mixture.negatives.share
    if mixture.steps is not None:
        return mixture.steps * global_batch_size / (epoch_of(0.0).total * (1 + share))
    assert mixture.tokens is not None, "one of epochs, steps and tokens is validated to be set"
    length = {task: _mean(store.lengths_of(pool.rows)) for task, pool in pools.items()}
    # Tasks alike, as they are drawn while they have enough.
    negative_length = sum(_mean(store.lengths_of(rows)) for rows in negatives.values())
    negative_length /= max(1, len(negatives))

    def tokens(epochs: float) -> float:
        rows = epoch_of(epochs).rows
        right = sum(count * length[task] for task, count in rows.items())
        return right + share * negative_length * sum(rows.values())

    epochs = mixture.tokens / tokens(0.0)
    if mixture.balance.strategy is not Strategy.unimax:
        return epochs
    # The longer the phase, the more tasks are at their most and the others' lengths count. Where all
    # are, more epochs bring no more tokens.
    low, high = 0.0, 4.0 * epochs
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (low, middle) if middle * tokens(middle) >= mixture.tokens else (middle, high)
    return high


def _mean(values: np.ndarray) -> float:
    return float(values.mean())


def _draw(
    total: int,
    per_epoch: Mapping[str, float],
    at_most: Mapping[str, int],
    dealers: Mapping[str, Dealer],
    arrange: Arrange,
    dtype: type,
) -> np.ndarray:
    """``total`` rows, epoch after epoch; every task within one row of its share of them.

    A task has drawn ``per_epoch`` rows per epoch at the end of each, rounded.
    """
    of_task = apportion(total, per_epoch, at_most)
    total = sum(of_task.values())
    epochs = math.ceil(total / sum(per_epoch.values()) - 1e-9)
    rows: np.ndarray = np.empty(total, dtype)
    filled = 0
    drawn = dict.fromkeys(per_epoch, 0)
    for epoch in range(epochs):
        after = {
            task: min(int(per_epoch[task] * (epoch + 1) + 0.5), of_task[task])
            if epoch < epochs - 1
            else of_task[task]
            for task in per_epoch
        }
        counts = {task: after[task] - drawn[task] for task in per_epoch}
        ordered = arrange({task: dealers[task].take(n) for task, n in counts.items() if n}, epoch)
        rows[filled : filled + len(ordered)] = ordered
        filled, drawn = filled + len(ordered), after
    return rows


def _arrange(
    name: str,
    mixture: MixtureConfig,
    roles: Roles,
    store: SampleStore,
    seed: int,
    row_losses: Path | None,
) -> Arrange:
    """A function that orders an epoch's rows of every task."""
    hardness = None
    if mixture.order is Order.easy_to_hard:
        hardness = hardness_of(store, mixture.order_by, row_losses)

    def arrange(drawn: Mapping[str, np.ndarray], epoch: int) -> np.ndarray:
        def rng_of(task: str) -> np.random.Generator:
            return generator(seed, name, "order", task, epoch)

        groups = {task: drawn[task] for task in roles.main if task in drawn}
        companions = {task: rows for task, rows in drawn.items() if task not in groups}
        if mixture.order is Order.mixed:
            return mixed(drawn, rng_of)
        if mixture.order is Order.grouped:
            return grouped(groups, companions, mixture.block_rows, rng_of)
        if mixture.order is Order.sequential:
            return sequential(groups, companions, rng_of)
        assert hardness is not None
        return easy_to_hard(groups, companions, hardness, rng_of)

    return arrange
