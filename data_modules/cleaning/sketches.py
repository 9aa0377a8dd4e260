"""What duplicates are judged by: keys and MinHash values of rows, made in parts, read as one table."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np

from data_modules.cleaning.shingles import NUM_PERM, minhashes, normalised, shingle_set
from data_modules.records import Record
from data_modules.samples import key_of

Part = Mapping[str, np.ndarray]
Texts = Callable[[int], tuple[str, str]]


def compared_texts(record: Record) -> tuple[str, str]:
    """Prompt and answer of a record as duplicates are judged by; what ``texts_of`` is to return.

    A wrong answer beside the right one counts as part of the answer; a system turn is no part of what
    is asked.
    """
    turns = [message for message in record.messages[:-1] if message.role != "system"]
    prompt = "\n".join(message.content for message in turns)
    if record.rejected is not None:
        return prompt, f"{record.answer}\n{record.rejected}"
    return prompt, record.answer


def signatures(records: Sequence[Record], near: bool) -> dict[str, np.ndarray]:
    """What :func:`find_duplicates` has to know of one part's n rows.

    Args:
        near: also make MinHash signatures, for near duplicates.

    Returns:
        ``content_keys`` and ``prompt_keys`` uint64 [n], ``negative`` bool [n], and with ``near``
        ``prompt_hashes`` and ``answer_hashes`` uint32 [NUM_PERM, n].
    """
    texts = [tuple(map(normalised, compared_texts(record))) for record in records]
    content = [
        key_of(prompt, answer, *_kind(record))
        for (prompt, answer), record in zip(texts, records, strict=True)
    ]
    arrays = {
        "content_keys": np.array(content, np.uint64),
        "prompt_keys": np.array([key_of(prompt) for prompt, _ in texts], np.uint64),
        "negative": np.array([record.negative for record in records], bool),
    }
    if near:
        # rows of one band lie together: a band is read without the others
        arrays["prompt_hashes"] = np.ascontiguousarray(minhashes([p for p, _ in texts]).T)
        arrays["answer_hashes"] = np.ascontiguousarray(minhashes([a for _, a in texts]).T)
    return arrays


def _kind(record: Record) -> tuple[str, ...]:
    """Further texts that tell equal rows apart: sign, system turns, whether there is a wrong answer."""
    system = [message.content for message in record.messages if message.role == "system"]
    return ("-" if record.negative else "+", "" if record.rejected is None else "r", *system)


def save_signatures(folder: Path, arrays: Part) -> None:
    """Write one part's arrays as ``.npy`` files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


class _Saved(Mapping[str, np.ndarray]):
    """Arrays that are mapped into memory only while they are used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __getitem__(self, name: str) -> np.ndarray:
        path = self.folder / f"{name}.npy"
        if not path.exists():
            raise KeyError(name)
        # an empty array cannot be mapped
        array = np.load(path) if path.stat().st_size <= 256 else np.load(path, mmap_mode="r")
        return array

    def __iter__(self) -> Iterator[str]:
        return (path.stem for path in sorted(self.folder.glob("*.npy")))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def load_signatures(folder: Path) -> Part:
    """One saved part; its arrays are mapped into memory anew at every access and dropped after it."""
    return _Saved(folder)


class Rows:
    """All parts as one table."""

    def __init__(self, parts: Sequence[Part], texts_of: Texts) -> None:
        self.parts = parts
        lengths = [len(part["content_keys"]) for part in parts]
        self.offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        self.count = int(self.offsets[-1])
        self.texts_of = texts_of
        # the rows of a bucket are compared with each other, so some texts are asked for again soon
        self.shingles_of = lru_cache(maxsize=4096)(self._shingles_of)

    def _spans(self) -> Iterator[tuple[Part, int, int]]:
        for part, (start, end) in zip(self.parts, pairwise(self.offsets.tolist()), strict=True):
            yield part, start, end

    def column(self, name: str) -> np.ndarray:
        """One value per row, as an array of its own."""
        values = np.empty(self.count, self.parts[0][name].dtype)
        for part, start, end in self._spans():
            array = part[name]
            values[start:end] = array
            _forget(array)
        return values

    def band(self, names: Sequence[str], span: slice, groups: np.ndarray | None) -> np.ndarray:
        """uint64 [N]: hashes of some MinHash values of every row, its sign and its group."""
        keys = np.zeros(self.count, np.uint64) if groups is None else groups.astype(np.uint64)
        for part, start, end in self._spans():
            view = keys[start:end]
            for name in names:
                array = part[name]
                for values in array[span]:
                    mix(view, values)
                _forget(array)
        return keys

    def hashes(self, rows: np.ndarray) -> np.ndarray:
        """uint32 [rows, 2 NUM_PERM]: MinHash values of prompt and answer; ``rows`` ascend."""
        values = np.empty((len(rows), 2 * NUM_PERM), np.uint32)
        bounds = np.searchsorted(rows, self.offsets)
        for number, (start, end) in enumerate(pairwise(bounds.tolist())):
            if start == end:
                continue
            local = rows[start:end] - self.offsets[number]
            for half, name in enumerate(("prompt_hashes", "answer_hashes")):
                array = self.parts[number][name]
                values[start:end, half * NUM_PERM : (half + 1) * NUM_PERM] = array[:, local].T
                _forget(array)
        return values

    def _shingles_of(self, row: int) -> tuple[frozenset[int], ...]:
        """Shingles of the prompt, its first line, its last line and the answer."""
        prompt, answer = self.texts_of(row)
        lines = prompt.strip().split("\n")
        return tuple(map(shingle_set, (prompt, lines[0], lines[-1], answer)))


def mix(keys: np.ndarray, values: np.ndarray) -> None:
    """Fold one value per key into keys, in place."""
    keys ^= values.astype(np.uint64)
    keys *= np.uint64(0x9E3779B97F4A7C15)
    keys ^= keys >> np.uint64(31)


def set_apart(keys: np.ndarray, out: np.ndarray) -> None:
    """Give rows that are left out keys of their own, so that they are like no other; in place."""
    gone = np.flatnonzero(out)
    own = gone.astype(np.uint64)
    mix(own, keys[gone])
    keys[gone] = own


def _forget(array: np.ndarray) -> None:
    """Give back the pages of a mapped array, which else count as this process's memory."""
    mapped = getattr(array, "_mmap", None)
    if isinstance(mapped, mmap.mmap):
        mapped.madvise(mmap.MADV_DONTNEED)
