"""A phase's plan as it is used: rows by step, what they amount to, saved and memory-mapped."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_modules.samples import SampleStore, damaged, saved_array, saved_object
from data_modules.sealing import scratch_beside

_CHUNK = 1 << 20  # rows looked at at once: bounds memory where there are tens of millions
_VALUES = (
    *("name", "row_epochs", "global_batch_size", "asked", "factors"),
    *("epoch_rows", "asked_epoch_rows", "weighted_sources"),
)


@dataclass(frozen=True)
class TaskUse:
    """What one phase uses of one task.

    Attributes:
        available: rows the task has, negatives apart.
        rows: rows trained on, repeats counted, negatives apart.
        distinct: different rows among them.
        max_repeats: how often the most repeated row appears; a negative counts too.
        tokens: all input tokens, of negatives too, repeats counted.
        answer_tokens: the supervised ones of ``rows``.
        asked_share: share of the phase's rows, negatives apart, that its mixture asks for.
        negatives: negative rows trained on, repeats counted.
        sources: source -> rows of ``rows``, where the task's sources have different weights, or where
            it has several and negatives are drawn.
        negative_sources: source -> rows of ``negatives``, where the task has several sources.
    """

    available: int
    rows: int
    distinct: int
    max_repeats: int
    tokens: int
    answer_tokens: int
    asked_share: float = 0.0
    negatives: int = 0
    sources: dict[str, int] = field(default_factory=dict)
    negative_sources: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PhasePlan:
    """One phase as rows of a store.

    Attributes:
        rows: int32 [R] (int64 for a store of 2**31 rows or more), indices into ``store``, in
            training order.
        row_epochs: epochs of the mixture that R rows amount to.
        asked: task -> share of the rows, negatives apart, that the mixture asks for.
        factors: of ``strategy: axes``: task -> axis -> factor.
        epoch_rows: rows of an epoch, negatives apart.
        asked_epoch_rows: rows it was to have; ``unimax`` may run out of rows that it may repeat.
        weighted_sources: tasks whose sources are drawn by different weights.
    """

    name: str
    store: SampleStore
    rows: np.ndarray
    row_epochs: float
    global_batch_size: int
    asked: Mapping[str, float] = field(default_factory=dict)
    factors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    epoch_rows: float = 0.0
    asked_epoch_rows: float = 0.0
    weighted_sources: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        return math.ceil(len(self.rows) / self.global_batch_size)

    def step_rows(self, step: int) -> np.ndarray:
        """int: the rows of the phase's step ``step`` (0-based)."""
        assert 0 <= step < self.steps, f"step {step} of {self.steps}"
        size = self.global_batch_size
        return self.rows[step * size : (step + 1) * size]

    def use(self) -> dict[str, TaskUse]:
        """Per task that the phase trains on."""
        store = self.store
        count = len(store.tasks)
        repeats = np.bincount(self.rows, minlength=len(store))
        top = int(repeats.max()) + 1
        # [task, 2 signs, times drawn] -> rows of the store
        table = np.zeros((count, 2, top), np.int64)
        for part in _chunks(len(store)):
            key = (np.asarray(store.task_ids[part]) * 2 + (store.signs[part] < 0)) * top
            key += repeats[part]
            table += np.bincount(key, minlength=table.size).reshape(table.shape)
        tokens, answers = np.zeros(count), np.zeros(count)
        sources = np.zeros((2, len(store.sources)), np.int64)  # right answers, negatives
        for part in _chunks(len(self.rows)):
            rows = self.rows[part]
            tasks = np.asarray(store.task_ids)[rows]
            tokens += np.bincount(tasks, store.lengths_of(rows), count)
            right = np.asarray(store.signs)[rows] > 0
            for sign, some in enumerate((right, ~right)):
                source_ids = np.asarray(store.source_ids)[rows[some]]
                sources[sign] += np.bincount(source_ids, minlength=sources.shape[1])
            rows, tasks = rows[right], tasks[right]
            answers += np.bincount(tasks, np.asarray(store.answer_tokens)[rows], count)
        drawn = table * np.arange(top)
        result: dict[str, TaskUse] = {}
        for number, task in enumerate(store.tasks):
            if drawn[number].any():
                right_of, wrong_of = (self._sources_of(task, counts) for counts in sources)
                several = len(right_of) > 1
                wrong_of = {name: rows for name, rows in wrong_of.items() if rows and several}
                result[task] = TaskUse(
                    available=int(table[number, 0].sum()),
                    rows=int(drawn[number, 0].sum()),
                    distinct=int(table[number, 0, 1:].sum()),
                    max_repeats=int(table[number].any(axis=0).nonzero()[0][-1]),
                    tokens=int(tokens[number]),
                    answer_tokens=int(answers[number]),
                    asked_share=self.asked.get(task, 0.0),
                    negatives=int(drawn[number, 1].sum()),
                    sources=right_of if wrong_of or task in self.weighted_sources else {},
                    negative_sources=wrong_of,
                )
        return result

    def _sources_of(self, task: str, rows: np.ndarray) -> dict[str, int]:
        return {
            name.removeprefix(f"{task}/"): int(count)
            for name, count in zip(self.store.sources, rows, strict=True)
            if name.startswith(f"{task}/")
        }

    def fingerprint(self) -> str:
        """sha256 over the tokens the phase trains on, in order."""
        digest = hashlib.sha256(f"{self.name}/{self.global_batch_size}".encode())
        # The rows' own tokens, not their numbers: the store also holds other phases' tasks.
        for part in _chunks(len(self.rows)):
            rows = self.rows[part]
            digest.update(np.asarray(self.store.token_keys)[rows].tobytes())
            digest.update(np.asarray(self.store.signs)[rows].tobytes())
        return digest.hexdigest()

    def save(self, folder: Path) -> None:
        """Write to ``folder`` in one rename, without the store; a complete copy there wins."""
        values = {name: getattr(self, name) for name in _VALUES}
        with scratch_beside(folder) as scratch:
            np.save(scratch / "rows.npy", self.rows)
            values["store_rows"] = len(self.store)
            (scratch / "plan.json").write_text(json.dumps(values), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path, store: SampleStore) -> PhasePlan:
        """Memory-map a saved plan over the store that it was made from.

        Raises:
            DataFault: its files are missing or damaged, or it is a plan of another store.
        """
        values = saved_object(folder, "plan.json")
        rows = saved_array(folder, "rows")
        if values.pop("store_rows", None) != len(store):
            raise damaged(folder, "it is a plan of another store")
        if set(values) != set(_VALUES) or rows.dtype.kind != "i" or not len(rows):
            raise damaged(folder, "it holds something else than a plan")
        values["weighted_sources"] = tuple(values["weighted_sources"])
        return cls(store=store, rows=rows, **values)


def _chunks(count: int) -> Iterator[slice]:
    for start in range(0, count, _CHUNK):
        yield slice(start, start + _CHUNK)
