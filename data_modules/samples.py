"""Tokenised samples as flat, memory-mapped arrays: nothing per row lives in Python objects."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_modules.faults import DataFault, Fault
from data_modules.sealing import scratch_beside

# name -> (dtype, whether there is one entry a token and not one a sample)
_ARRAYS: dict[str, tuple[type, bool]] = {
    "input_ids": (np.int32, True),
    "supervised": (np.bool_, True),
    "task_ids": (np.int32, False),
    "answer_tokens": (np.int32, False),
    "signs": (np.int8, False),
    "source_ids": (np.int16, False),
    "language_ids": (np.int16, False),
    "quality": (np.float32, False),
    "row_keys": (np.uint64, False),
    "request_keys": (np.uint64, False),
    "token_keys": (np.uint64, False),
}
_NAMES = ("tasks", "sources", "languages")


def key_of(*parts: str) -> int:
    """64-bit key of texts, the same on every machine."""
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        raw = part.encode()
        digest.update(f"{len(raw)}:".encode() + raw)
    return int.from_bytes(digest.digest(), "little")


class Sample(NamedTuple):
    """One sample before it is stored.

    Attributes:
        sign: 1, or -1 for a negative.
        row_key: :func:`key_of` the row's task, id and kind; the same in every wording.
        request_key: the same for the right and the wrong answers to one request.
    """

    task: str
    input_ids: Sequence[int]
    supervised: np.ndarray
    sign: int = 1
    source: str = "main"
    language: str = ""
    quality: float = 1.0
    row_key: int = 0
    request_key: int = 0


@dataclass(frozen=True)
class SampleStore:
    """N samples with T tokens in all.

    Attributes:
        tasks, sources, languages: names that the ``*_ids`` index into; a source is named
            ``task/source``.
        input_ids: int32 [T].
        supervised: bool [T], True where the token is trained on.
        offsets: int64 [N + 1]; sample i holds tokens ``offsets[i]:offsets[i + 1]``.
        task_ids: int32 [N]; source_ids, language_ids: int16 [N].
        answer_tokens: int32 [N], supervised tokens of each sample; at least 1.
        signs: int8 [N], 1, or -1 where the answer is a negative.
        quality: float32 [N], score in [0, 1].
        row_keys, request_keys: uint64 [N], see :class:`Sample`.
        token_keys: uint64 [N], hash of the sample's tokens and of which are supervised.
    """

    tasks: tuple[str, ...]
    sources: tuple[str, ...]
    languages: tuple[str, ...]
    input_ids: np.ndarray
    supervised: np.ndarray
    offsets: np.ndarray
    task_ids: np.ndarray
    answer_tokens: np.ndarray
    signs: np.ndarray
    source_ids: np.ndarray
    language_ids: np.ndarray
    quality: np.ndarray
    row_keys: np.ndarray
    request_keys: np.ndarray
    token_keys: np.ndarray

    @classmethod
    def build(cls, tasks: tuple[str, ...], samples: Iterable[Sample]) -> SampleStore:
        """Collect samples in memory; each has a supervised token."""
        columns: dict[str, list] = {name: [] for name in _ARRAYS}
        sources: dict[str, int] = {}
        languages: dict[str, int] = {}
        task_of = {task: number for number, task in enumerate(tasks)}
        lengths: list[int] = []
        for sample in samples:
            ids = np.asarray(sample.input_ids, dtype=np.int32)
            mask = np.asarray(sample.supervised, dtype=bool)
            # The loss at a token is read one position earlier; a supervised first token would be
            # predicted by the neighbour packed before it.
            assert mask.any(), "samples without a supervised token are refused before"
            assert not mask[0], "a sample opens with its prompt"
            source = f"{sample.task}/{sample.source}"
            lengths.append(len(ids))
            columns["input_ids"].append(ids)
            columns["supervised"].append(mask)
            columns["task_ids"].append(task_of[sample.task])
            columns["answer_tokens"].append(int(mask.sum()))
            columns["signs"].append(sample.sign)
            columns["source_ids"].append(sources.setdefault(source, len(sources)))
            columns["language_ids"].append(languages.setdefault(sample.language, len(languages)))
            columns["quality"].append(sample.quality)
            columns["row_keys"].append(sample.row_key)
            columns["request_keys"].append(sample.request_key)
            digest = hashlib.blake2b(ids.tobytes(), digest_size=8)
            digest.update(np.packbits(mask).tobytes())
            columns["token_keys"].append(int.from_bytes(digest.digest(), "little"))
        arrays: dict[str, np.ndarray] = {}
        for name, (dtype, per_token) in _ARRAYS.items():
            if per_token:
                arrays[name] = np.concatenate(columns[name]) if lengths else np.empty(0, dtype)
            else:
                arrays[name] = np.array(columns[name], dtype=dtype)
        offsets = np.concatenate([[0], np.cumsum(np.array(lengths, np.int64))]).astype(np.int64)
        return cls(tasks, tuple(sources), tuple(languages), offsets=offsets, **arrays)

    def __len__(self) -> int:
        return len(self.task_ids)

    @property
    def lengths(self) -> np.ndarray:
        """int64 [N]: tokens of each sample; made anew at every call, see :meth:`lengths_of`."""
        return np.diff(self.offsets)

    def lengths_of(self, rows: np.ndarray) -> np.ndarray:
        """int64 [rows]: tokens of some samples."""
        return self.offsets[rows + 1] - self.offsets[rows]

    def tokens(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """``(input_ids, supervised)`` of one sample."""
        span = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        return self.input_ids[span], self.supervised[span]

    def rows_of(self, task: str, sign: int = 1) -> np.ndarray:
        """int64: the indices of a task's samples of one sign, in file order."""
        of_task = np.asarray(self.task_ids) == self.tasks.index(task)
        return np.flatnonzero(of_task & (np.asarray(self.signs) == sign))

    def save(self, folder: Path) -> None:
        """Write to ``folder`` in one rename; an existing complete copy wins."""
        with scratch_beside(folder) as scratch:
            self.write(scratch)

    def write(self, folder: Path) -> None:
        """Write the files of a store into a folder that exists."""
        for name in (*_ARRAYS, "offsets"):
            np.save(folder / f"{name}.npy", getattr(self, name))
        names = {name: getattr(self, name) for name in _NAMES}
        (folder / "names.json").write_text(json.dumps(names), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> SampleStore:
        """Memory-map a saved store.

        Raises:
            DataFault: files are missing or damaged, or do not belong together.
        """
        arrays: dict[str, Any] = {
            name: saved_array(folder, name, dtype) for name, (dtype, _) in _ARRAYS.items()
        }
        offsets = saved_array(folder, "offsets", np.int64)
        tokens, rows = int(offsets[-1]) if len(offsets) else -1, len(offsets) - 1
        for name, (_, per_token) in _ARRAYS.items():
            if len(arrays[name]) != (tokens if per_token else rows):
                seen = f"{name}.npy has {len(arrays[name]):,} entries, offsets.npy tells of "
                raise damaged(folder, f"{seen}{rows:,} samples with {tokens:,} tokens")
        names = saved_object(folder, "names.json")
        try:
            named = {name: tuple(map(str, names[name])) for name in _NAMES}
        except (KeyError, TypeError) as error:
            raise damaged(folder, f"names.json has no list of {error}") from error
        return cls(offsets=offsets, **arrays | named)


def saved_array(folder: Path, name: str, dtype: Any = None) -> np.ndarray:
    """Memory-map one array, one entry behind the other, of a cache entry.

    Raises:
        DataFault: the file is missing or cut short, or holds something else.
    """
    try:
        array = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise damaged(folder, f"{name}.npy cannot be read ({error})") from error
    if array.ndim != 1 or (dtype is not None and array.dtype != dtype):
        raise damaged(folder, f"{name}.npy holds {array.dtype} {list(array.shape)}")
    return array


def saved_object(folder: Path, name: str) -> dict[str, Any]:
    """A JSON object of a cache entry.

    Raises:
        DataFault: the file is missing or no JSON object.
    """
    try:
        value = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise damaged(folder, f"{name} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise damaged(folder, f"{name} holds {type(value).__name__}")
    return value


def damaged(folder: Path, seen: str) -> DataFault:
    """The fault of a cache entry that is not what was written there."""
    first = seen.splitlines()[0] if seen else seen
    rule = "entries of the cache are read as they were written"
    return DataFault(Fault(str(folder), first, rule, f"Delete {folder}: it is made again."))


def join_stores(tasks: tuple[str, ...], parts: Sequence[Path], folder: Path) -> None:
    """Write saved stores one behind the other as one, into a folder that exists.

    One array of one part is in memory at a time, and nothing is mapped: pages of large maps would
    count as this process's memory.
    """
    offsets, end = [np.zeros(1, np.int64)], 0
    for part in parts:
        offsets.append(np.load(part / "offsets.npy")[1:] + end)
        end += int(np.load(part / "offsets.npy")[-1])
    all_offsets = np.concatenate(offsets)
    np.save(folder / "offsets.npy", all_offsets)
    names = [json.loads((part / "names.json").read_text(encoding="utf-8")) for part in parts]
    sources, languages = _Numbers(), _Numbers()
    renumbered = {
        "source_ids": [sources.of(one["sources"]) for one in names],
        "language_ids": [languages.of(one["languages"]) for one in names],
    }
    for name, (dtype, per_token) in _ARRAYS.items():
        size = int(all_offsets[-1]) if per_token else len(all_offsets) - 1
        header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (size,)}
        with (folder / f"{name}.npy").open("wb") as out:
            np.lib.format.write_array_header_1_0(out, header)
            for number, part in enumerate(parts):
                values = np.load(part / f"{name}.npy")
                if name in renumbered and len(values):
                    values = renumbered[name][number][values].astype(dtype)
                out.write(values.tobytes())
    joined = {"tasks": tasks, "sources": tuple(sources), "languages": tuple(languages)}
    (folder / "names.json").write_text(json.dumps(joined), encoding="utf-8")


class _Numbers(dict[str, int]):
    """Names numbered in the order in which they are first met."""

    def of(self, names: Sequence[str]) -> np.ndarray:
        """int64: the numbers of some names; unknown ones get the next."""
        return np.array([self.setdefault(name, len(self)) for name in names], dtype=np.int64)
