"""Texts as sets of hashed shingles and as MinHash signatures, for many texts at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from rensa import RMinHash

#: MinHash values of one text.
NUM_PERM = 32
_SEED = 20240607
#: Characters in a shingle; two where it opens with a Chinese or Japanese character, which says more.
_LONG, _SHORT = 5, 2
_CJK_FROM = 0x2E80
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def normalised(text: str) -> str:
    """Lower case, white space as single blanks."""
    return " ".join(text.lower().split())


def shingles(texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Hashed shingles of normalised texts, one text behind the other.

    One shingle opens at every character from which a whole one fits in; at the first in any case.

    Returns:
        uint64 [S] hashes, equal shingles repeated, and int64 [texts + 1] offsets.
    """
    end = "\0" * (_LONG - 1)
    raw = (end.join(texts) + end).encode("utf-32-le", "surrogatepass")
    letters = np.frombuffer(raw, np.uint32).astype(np.uint64)
    count = len(letters) - len(end)
    hashes = letters[:count].copy()
    for place in range(1, _SHORT):
        hashes = hashes * _MULTIPLIER + letters[place : place + count]
    long = hashes
    for place in range(_SHORT, _LONG):
        long = long * _MULTIPLIER + letters[place : place + count]
    hashes = np.where(letters[:count] >= _CJK_FROM, hashes, long)
    # Spread: MinHash multiplies, and the low bits of a product know only those of its factors.
    hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(32)
    starts = np.zeros(len(texts) + 1, np.int64)
    np.cumsum([len(text) + len(end) for text in texts], out=starts[1:])
    starts[-1] = count
    last = np.where(
        letters[:count] >= _CJK_FROM,
        letters[_SHORT - 1 : count + _SHORT - 1],
        letters[_LONG - 1 : count + _LONG - 1],
    )
    inside = last != 0
    inside[starts[:-1][starts[:-1] < count]] = True
    inside &= letters[:count] != 0
    kept = np.zeros(count + 1, np.int64)
    np.cumsum(inside, out=kept[1:])
    return hashes[inside], kept[starts]


def minhashes(texts: Sequence[str]) -> np.ndarray:
    """uint32 [texts, NUM_PERM]: signatures of normalised texts."""
    if not texts:
        return np.empty((0, NUM_PERM), np.uint32)
    hashes, offsets = shingles(texts)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets.astype(np.uint64), NUM_PERM, _SEED
    )
    return np.array(matrix.to_rows(), np.uint32)


def shingle_set(text: str) -> frozenset[int]:
    """The distinct shingles of one text, which need not be normalised."""
    return frozenset(shingles([normalised(text)])[0].tolist())


def jaccard(one: frozenset[int], other: frozenset[int]) -> float:
    """Share of the shingles of two texts that both have; 1 for two empty texts."""
    if not one and not other:
        return 1.0
    both = len(one & other)
    return both / (len(one) + len(other) - both)
