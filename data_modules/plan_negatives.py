"""Negatives in a plan: which wrong answers a phase pushes away from, and in which steps."""

from __future__ import annotations

import math

import numpy as np

from data_modules.balance import apportion
from data_modules.faults import DataFault, Fault
from data_modules.mixture import NegativesConfig
from data_modules.order import even_places
from data_modules.samples import SampleStore
from data_modules.seeding import generator


def negatives_of(store: SampleStore, phase: str, tasks: tuple[str, ...]) -> dict[str, np.ndarray]:
    """int64 rows of the negatives of every task that has some.

    Raises:
        DataFault: no task has any.
    """
    found = {task: store.rows_of(task, sign=-1) for task in tasks}
    found = {task: rows for task, rows in found.items() if len(rows)}
    if not found:
        raise DataFault(
            Fault(
                f"curriculum.phases.{phase}.negatives.share",
                "above 0, but none of the phase's tasks has a negative row",
                "it is the number of negative rows per other row",
                "Make some with data.negatives.cross_task=0.1, bring some in the data (a field "
                "'rejected', or \"negative\": true), or set the share to 0.",
            )
        )
    return found


def add_negatives(
    rows: np.ndarray,
    count: int,
    pools: dict[str, np.ndarray],
    store: SampleStore,
    config: NegativesConfig,
    phase: str,
    seed: int,
    global_batch_size: int,
) -> np.ndarray:
    """Put ``count`` negatives between ``rows``, which keep their order.

    They are spread evenly over the steps behind ``config.start``; with ``config.pairs`` those whose
    right answer is among these steps' rows go to it instead.
    """
    steps = math.ceil((len(rows) + count) / global_batch_size)
    # 1e-9: 0.3 of 10 steps are three. The last step may take negatives in any case.
    first_step = min(math.ceil(config.start * steps - 1e-9), steps - 1)
    first = min(first_step * global_batch_size, len(rows))
    right = _Answers(store, rows, first) if config.pairs else None
    negatives = _draw(count, pools, right, phase, seed).astype(rows.dtype)
    places = even_places(len(rows), count, first)
    if right is None:
        return np.insert(rows, places, negatives)
    lots = generator(seed, phase, "negatives", "pairs").random(count)
    partner = right.place_of(negatives, lots)
    paired = partner >= 0
    places[paired] = partner[paired] + 1  # right behind it
    # The others are spread over the same stretch on their own.
    places[~paired] = even_places(len(rows), int((~paired).sum()), first)
    ordered = np.lexsort((~paired, places))  # right behind the answer before others at its place
    places, negatives, paired = places[ordered], negatives[ordered], paired[ordered]
    merged = np.insert(rows, places, negatives)
    _join_pairs(merged, places + np.arange(count), paired, global_batch_size)
    return merged


def _draw(
    count: int,
    pools: dict[str, np.ndarray],
    right: _Answers | None,
    phase: str,
    seed: int,
) -> np.ndarray:
    """Tasks alike as far as they have negatives; all of them once before any comes twice."""
    sizes = {task: len(rows) for task, rows in pools.items()}
    times, left = divmod(count, sum(sizes.values()))
    once_more = apportion(left, dict.fromkeys(sizes, 1.0), at_most=sizes)
    drawn: list[np.ndarray] = []
    lots: list[np.ndarray] = []
    for task in sorted(pools):
        rows = generator(seed, phase, "negatives", task).permutation(pools[task])
        if right is not None:
            has = right.has(rows)
            rows = np.concatenate([rows[has], rows[~has]])
        drawn += [rows] * times + [rows[: once_more[task]]]
        amount = times * sizes[task] + once_more[task]
        lots.append(generator(seed, phase, "negatives", "order", task).random(amount))
    return np.concatenate(drawn)[np.argsort(np.concatenate(lots), kind="stable")]


class _Answers:
    """Where in a phase the right answers to requests are, from place ``first`` on."""

    def __init__(self, store: SampleStore, rows: np.ndarray, first: int) -> None:
        self._store = store
        keys = np.asarray(store.request_keys)[rows[first:]]
        order = np.argsort(keys, kind="stable")
        self._keys, self._places = keys[order], order + first

    def has(self, negatives: np.ndarray) -> np.ndarray:
        """bool: whether the request of each negative is answered there."""
        left, right = self._span(negatives)
        return right > left

    def place_of(self, negatives: np.ndarray, lots: np.ndarray) -> np.ndarray:
        """int64: place of an answer to each negative's request, by lot among several; -1 for none."""
        left, right = self._span(negatives)
        found = left + ((right - left) * lots).astype(np.int64)
        places = np.full(len(negatives), -1, np.int64)
        places[right > left] = self._places[found[right > left]]
        return places

    def _span(self, negatives: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        keys = np.asarray(self._store.request_keys)[negatives]
        return np.searchsorted(self._keys, keys), np.searchsorted(self._keys, keys, side="right")


def _join_pairs(
    merged: np.ndarray, places: np.ndarray, paired: np.ndarray, global_batch_size: int
) -> None:
    """Bring negatives that opened the step after their right answer's back into its step.

    Only negatives trade places, so that the other rows stay where they are: one without a partner
    that lies in the step before. Where that step has none, the pair stays parted.

    Args:
        places: int64 [negatives], ascending: where they stand in ``merged``.
    """
    # All negatives of one answer stand in a row behind it; only those behind the border are parted.
    run_start = np.concatenate([[True], np.diff(places) > 1])
    answer = np.maximum.accumulate(np.where(run_start, places - 1, 0))
    parted = paired & (places // global_batch_size != answer // global_batch_size)
    for index in np.flatnonzero(parted):
        step = answer[index] // global_batch_size
        low = np.searchsorted(places, step * global_batch_size)
        free = np.flatnonzero(~paired[low:index]) + low
        free = free[places[free] // global_batch_size == step]
        if len(free):
            other = free[-1]
            swapped = merged[[places[index], places[other]]]
            merged[[places[other], places[index]]] = swapped
            paired[other], paired[index] = True, False
