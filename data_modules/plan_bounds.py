"""A phase whose tasks are picked when it starts: how long it can be, and that it can be planned."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data_modules.balance import apportion
from data_modules.drawing import Pool
from data_modules.faults import DataFault, Fault
from data_modules.hardness import hardness_of
from data_modules.mixture import MixtureConfig, Order
from data_modules.plan import phase_length, task_pools
from data_modules.plan_negatives import negatives_of
from data_modules.roles import Roles
from data_modules.samples import SampleStore


@dataclass(frozen=True)
class Undecided:
    """How many of the tasks of its mixture a phase will be given.

    Attributes:
        fewest, most: both at least 1, ``most`` below the number of tasks.
    """

    fewest: int
    most: int


def step_bounds(
    name: str,
    mixture: MixtureConfig,
    roles: Roles,
    undecided: Undecided,
    store: SampleStore,
    global_batch_size: int,
    seed: int,
    rows_per_task: int | None,
    max_steps: int | None,
    source_weights: Mapping[str, float],
    row_losses: Path | None,
) -> tuple[int, int]:
    """Fewest and most steps of a phase, whichever tasks it is given.

    Exact for a length in steps or epochs. A length in tokens is bounded by phases of one task each,
    whose rows are the shortest and the longest; rows of ``rest_share`` count as they are then.

    Args:
        roles: with every task that may be picked as ``main``, and no ``rest``.

    Raises:
        DataFault: some choice of tasks could not be planned.
    """
    pools = task_pools(name, roles, store, rows_per_task, seed, source_weights)
    negatives: dict[str, np.ndarray] = {}
    if mixture.negatives.share:
        negatives = negatives_of(store, name, roles.main)
        _check_negatives(name, mixture, roles, undecided, negatives)
    if mixture.order is Order.easy_to_hard:
        hardness = hardness_of(store, mixture.order_by, row_losses)
        for pool in pools.values():  # for its faults
            hardness(pool.rows)

    def steps(main: tuple[str, ...]) -> int:
        rest = tuple(task for task in roles.main if task not in main) if mixture.rest_share else ()
        chosen = Roles(main, rest, roles.general)
        drawn = {task: rows for task, rows in negatives.items() if task in main + rest}
        length = phase_length(
            name, mixture, chosen, store, pools, drawn, global_batch_size, max_steps
        )
        right = sum(apportion(length.right_rows, length.epoch.rows, length.limits).values())
        return math.ceil((right + length.negative_rows) / global_batch_size)

    # The balance needs what it needs of all tasks, before any of them is left out.
    phase_length(name, mixture, roles, store, pools, negatives, global_batch_size, max_steps)
    found = [steps(main) for main in _extremes(mixture, roles, undecided, pools)]
    return min(found), max(found)


def _extremes(
    mixture: MixtureConfig, roles: Roles, undecided: Undecided, pools: Mapping[str, Pool]
) -> Iterator[tuple[str, ...]]:
    """Choices between which every other lies."""
    by_size = sorted(roles.main, key=lambda task: (len(pools[task]), task))
    yield tuple(by_size[: undecided.fewest])
    yield tuple(by_size[-undecided.most :])
    if mixture.tokens is not None:
        yield from ((task,) for task in roles.main)


def _check_negatives(
    name: str,
    mixture: MixtureConfig,
    roles: Roles,
    undecided: Undecided,
    negatives: Mapping[str, np.ndarray],
) -> None:
    """A choice without any negative must show now, not when the phase starts."""
    without = [task for task in roles.main if task not in negatives]
    if not mixture.rest_share and len(without) >= undecided.fewest:
        raise DataFault(
            Fault(
                f"curriculum.phases.{name}.negatives.share",
                f"above 0, but {', '.join(without)} has no negative row",
                f"the phase may be given {undecided.fewest} of its tasks, all of them without one",
                "Make some with data.negatives.cross_task=0.1, or set the share to 0.",
            )
        )
