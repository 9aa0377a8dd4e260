"""A fixed sample of the rows that a phase trains on, to measure on them again and again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from data_modules.phase_plan import PhasePlan
from data_modules.seeding import generator


class ProbeRows(NamedTuple):
    """Sampled rows of one task.

    Attributes:
        rows: int64 [n], different rows of the store, ascending.
        times: int64 [n], how often the phase draws each; at least 1.
    """

    rows: np.ndarray
    times: np.ndarray


def probe_rows(plan: PhasePlan, per_task: int, seed: int, purpose: str) -> dict[str, ProbeRows]:
    """Up to ``per_task`` rows of every task with rows in a phase, negatives apart.

    Every row that the phase draws is as likely as any other, however often it is drawn. A task's sample
    depends on no other task.

    Args:
        purpose: names the sample: two purposes, two samples.
    """
    store = plan.store
    times = np.bincount(plan.rows, minlength=len(store))
    drawn = np.flatnonzero(times)
    drawn = drawn[np.asarray(store.signs)[drawn] > 0]
    tasks = np.asarray(store.task_ids)[drawn]
    found: dict[str, ProbeRows] = {}
    for number, task in enumerate(store.tasks):
        rows = drawn[tasks == number]
        if len(rows):
            draw = generator(seed, purpose, plan.name, task)
            rows = np.sort(draw.choice(rows, min(per_task, len(rows)), replace=False))
            found[task] = ProbeRows(rows, times[rows])
    return found
