"""Tokenised samples as flat, memory-mapped arrays: nothing per row lives in Python objects."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

_ARRAYS = ("input_ids", "supervised", "offsets", "task_ids", "answer_tokens")


@dataclass(frozen=True)
class SampleStore:
    """N samples with T tokens in all.

    Attributes:
        tasks: task names; ``task_ids`` index into it.
        input_ids: int32 [T].
        supervised: bool [T], True where the token is trained on.
        offsets: int64 [N + 1]; sample i holds tokens ``offsets[i]:offsets[i + 1]``.
        task_ids: int32 [N].
        answer_tokens: int32 [N], supervised tokens of each sample; at least 1.
    """

    tasks: tuple[str, ...]
    input_ids: np.ndarray
    supervised: np.ndarray
    offsets: np.ndarray
    task_ids: np.ndarray
    answer_tokens: np.ndarray

    @classmethod
    def build(
        cls, tasks: tuple[str, ...], samples: Iterable[tuple[int, list[int], np.ndarray]]
    ) -> SampleStore:
        """Collect ``(task_id, input_ids, supervised)`` triples; each has a supervised token."""
        ids: list[np.ndarray] = []
        masks: list[np.ndarray] = []
        task_ids: list[int] = []
        for task_id, input_ids, supervised in samples:
            # The loss at a token is read one position earlier; a supervised first token would be
            # predicted by the neighbour packed before it.
            assert supervised.any(), "samples without a supervised token are refused before"
            assert not supervised[0], "a sample opens with its prompt"
            ids.append(np.asarray(input_ids, dtype=np.int32))
            masks.append(supervised)
            task_ids.append(task_id)
        lengths = np.array([len(piece) for piece in ids], dtype=np.int64)
        return cls(
            tasks,
            np.concatenate(ids) if ids else np.empty(0, np.int32),
            np.concatenate(masks) if masks else np.empty(0, bool),
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.array(task_ids, dtype=np.int32),
            np.array([mask.sum() for mask in masks], dtype=np.int32),
        )

    def __len__(self) -> int:
        return len(self.task_ids)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N]: tokens of each sample."""
        return np.diff(self.offsets)

    def tokens(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """``(input_ids, supervised)`` of one sample."""
        span = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return self.input_ids[span], self.supervised[span]

    def rows_of(self, task: str) -> np.ndarray:
        """int64: the indices of a task's samples, in file order."""
        return np.flatnonzero(self.task_ids == self.tasks.index(task))

    def save(self, folder: Path) -> None:
        """Write to ``folder`` in one rename; an existing complete copy wins."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=folder.name + ".tmp"))
        scratch.chmod(0o755)  # mkdtemp's 0700 would shut out others who share the cache
        for name in _ARRAYS:
            np.save(scratch / f"{name}.npy", getattr(self, name))
        (scratch / "tasks.json").write_text(json.dumps(self.tasks), encoding="utf-8")
        try:
            scratch.rename(folder)
        except OSError:  # another process finished the same, identical, store first
            shutil.rmtree(scratch)
            if not folder.is_dir():
                raise

    @classmethod
    def load(cls, folder: Path) -> SampleStore:
        """Memory-map a saved store."""
        arrays = {name: np.load(folder / f"{name}.npy", mmap_mode="r") for name in _ARRAYS}
        tasks = tuple(json.loads((folder / "tasks.json").read_text(encoding="utf-8")))
        return cls(tasks, **arrays)
