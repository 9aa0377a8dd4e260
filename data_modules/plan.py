"""The plan: which rows every optimizer step of every phase trains on.

A pure function of (samples, mixture, seed, global batch size). It knows nothing of ranks,
micro-batches or packing: those only decide where the rows of a step are computed, never which rows
they are. A step is ``global_batch_size`` rows; the last step of a phase holds what is left.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from data_modules.balance import apportion, draw, epoch_rows, with_shares
from data_modules.faults import DataFault, Fault
from data_modules.mixture import MixtureConfig, Order
from data_modules.order import grouped, mixed, sequential
from data_modules.samples import SampleStore
from data_modules.seeding import generator


@dataclass(frozen=True)
class Roles:
    """The tasks of one phase after group names are resolved."""

    main: tuple[str, ...]
    rest: tuple[str, ...]
    general: tuple[str, ...]


@dataclass(frozen=True)
class TaskUse:
    """What one phase uses of one task.

    Attributes:
        available: rows the task has.
        rows: rows trained on, repeats counted.
        distinct: different rows among them.
        max_repeats: how often the most repeated row appears.
        tokens, answer_tokens: all input tokens, and the supervised ones, repeats counted.
    """

    available: int
    rows: int
    distinct: int
    max_repeats: int
    tokens: int
    answer_tokens: int


@dataclass(frozen=True)
class PhasePlan:
    """One phase as rows of a store.

    Attributes:
        rows: int64 [R], indices into ``store``, in training order.
        row_epochs: epochs of the mixture that R rows amount to.
    """

    name: str
    store: SampleStore
    rows: np.ndarray
    row_epochs: float
    global_batch_size: int

    @property
    def steps(self) -> int:
        return math.ceil(len(self.rows) / self.global_batch_size)

    def step_rows(self, step: int) -> np.ndarray:
        """int64: the rows of the phase's step ``step`` (0-based)."""
        assert 0 <= step < self.steps, f"step {step} of {self.steps}"
        size = self.global_batch_size
        return self.rows[step * size : (step + 1) * size]

    def use(self) -> dict[str, TaskUse]:
        """Per task that the phase trains on."""
        repeats = np.bincount(self.rows, minlength=len(self.store))
        result: dict[str, TaskUse] = {}
        for task_id, name in enumerate(self.store.tasks):
            of_task = self.store.task_ids == task_id
            times = repeats * of_task
            if times.any():
                result[name] = TaskUse(
                    available=int(of_task.sum()),
                    rows=int(times.sum()),
                    distinct=int((times > 0).sum()),
                    max_repeats=int(times.max()),
                    tokens=int((times * self.store.lengths).sum()),
                    answer_tokens=int((times * self.store.answer_tokens).sum()),
                )
        return result

    def fingerprint(self) -> str:
        """sha256 over the tokens the phase trains on, in order."""
        digest = hashlib.sha256(f"{self.name}/{self.global_batch_size}".encode())
        # The rows' own tokens, not the store's: the store also holds other phases' tasks.
        distinct, order = np.unique(self.rows, return_inverse=True)
        digest.update(order.astype(np.int64).tobytes())
        digest.update(self.store.lengths[distinct].tobytes())
        for row in distinct:
            for array in self.store.tokens(int(row)):
                digest.update(array.tobytes())
        return digest.hexdigest()


def plan_phase(
    name: str,
    mixture: MixtureConfig,
    roles: Roles,
    store: SampleStore,
    global_batch_size: int,
    seed: int,
    rows_per_task: int | None = None,
    max_steps: int | None = None,
) -> PhasePlan:
    """Draw and order the rows of one phase.

    Args:
        rows_per_task: pretend that every task has at most this many rows, chosen by seed.
        max_steps: scale the draw down to at most this many steps.

    Raises:
        DataFault: a task the phase draws from has no rows.
    """
    rows_of = {task: store.rows_of(task) for task in roles.main + roles.rest + roles.general}
    if rows_per_task is not None:
        # The choice is the run's, not the phase's: all phases see the same few rows.
        rows_of = {
            task: np.sort(generator(seed, "subset", task).permutation(rows)[:rows_per_task])
            for task, rows in rows_of.items()
        }
    _check_not_empty(name, rows_of)
    per_epoch = _epoch_counts(mixture, roles, {task: len(rows) for task, rows in rows_of.items()})
    epoch_total = sum(per_epoch.values())
    total = _total_rows(mixture, per_epoch, rows_of, store, global_batch_size)
    if max_steps is not None:
        total = min(total, max_steps * global_batch_size)
    pieces: list[np.ndarray] = []
    for epoch in range(math.ceil(total / epoch_total)):
        left = total - epoch * epoch_total
        counts = per_epoch if left >= epoch_total else apportion(left, per_epoch)
        drawn = {
            task: draw(rows_of[task], count, generator(seed, name, "task", task, epoch))
            for task, count in counts.items()
        }
        pieces.append(_interleave(mixture, roles, drawn, generator(seed, name, "order", epoch)))
    return PhasePlan(name, store, np.concatenate(pieces), total / epoch_total, global_batch_size)


def _check_not_empty(name: str, rows_of: Mapping[str, np.ndarray]) -> None:
    faults = [
        Fault(
            f"curriculum.phases.{name}",
            f"task '{task}' has no usable training row",
            "every task a phase draws from needs data",
            f"Check data.tasks.{task}.source.train and the rejects file, or leave the task out.",
        )
        for task, rows in rows_of.items()
        if not len(rows)
    ]
    if faults:
        raise DataFault(faults)


def _epoch_counts(
    mixture: MixtureConfig, roles: Roles, available: Mapping[str, int]
) -> dict[str, int]:
    counts = epoch_rows({task: available[task] for task in roles.main}, mixture.balance)
    added = with_shares(
        sum(counts.values()),
        {"rest": mixture.rest_share if roles.rest else 0.0, "general": mixture.replay},
    )
    for role, tasks in (("rest", roles.rest), ("general", roles.general)):
        if added[role]:
            # The tasks of a role count alike: their sizes are what balance is there to undo.
            counts |= apportion(added[role], dict.fromkeys(tasks, 1.0))
    return counts


def _total_rows(
    mixture: MixtureConfig,
    per_epoch: Mapping[str, int],
    rows_of: Mapping[str, np.ndarray],
    store: SampleStore,
    global_batch_size: int,
) -> int:
    epoch_total = sum(per_epoch.values())
    if mixture.steps is not None:
        return mixture.steps * global_batch_size
    if mixture.epochs is not None:
        return max(1, round(mixture.epochs * epoch_total))
    assert mixture.tokens is not None, "one of epochs, steps and tokens is validated to be set"
    lengths = store.lengths
    epoch_tokens = sum(
        count * float(lengths[rows_of[task]].mean()) for task, count in per_epoch.items()
    )
    return max(1, round(mixture.tokens / epoch_tokens * epoch_total))


def _interleave(
    mixture: MixtureConfig,
    roles: Roles,
    drawn: Mapping[str, np.ndarray],
    rng: np.random.Generator,
) -> np.ndarray:
    if mixture.order is Order.mixed:
        return mixed(drawn, rng)
    groups = {task: drawn[task] for task in roles.main if task in drawn}
    others = [drawn[task] for task in sorted(set(drawn) - set(groups))]
    companions = np.concatenate([np.empty(0, np.int64), *others])
    if mixture.order is Order.grouped:
        return grouped(groups, companions, mixture.block_rows, rng)
    return sequential(groups, companions, rng)
