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

    Returns:
        uint64 [S] hashes, equal shingles repeated, and int64 [texts + 1] offsets. A text shorter than a
        shingle is one shingle; an empty text has none.
    """
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    # A few blanks between texts would mix neighbours: every place knows how much of its text is left.
    raw = "".join(texts).encode("utf-32-le", "surrogatepass")
    letters = np.frombuffer(raw, np.uint32).astype(np.uint64)
    left = np.repeat(offsets[1:], lengths) - np.arange(len(letters))
    size = np.where(letters >= _CJK_FROM, _SHORT, _LONG)
    padded = np.concatenate([letters, np.zeros(_LONG, np.uint64)])
    hashes = np.zeros(len(letters), np.uint64)
    for place in range(_LONG):
        inside = (place < left) & (place < size)
        letter = np.where(inside, padded[place : place + len(letters)], np.uint64(0))
        hashes = hashes * _MULTIPLIER + letter
    # spread: MinHash multiplies, and the low bits of a product know only the low bits of its factors
    hashes ^= hashes >> np.uint64(29)
    hashes *= np.uint64(0xBF58476D1CE4E5B9)
    hashes ^= hashes >> np.uint64(32)
    # a shingle cut off by the end of its text is inside the one before it
    whole = (size <= left) | (np.arange(len(letters)) == np.repeat(offsets[:-1], lengths))
    kept = np.concatenate([[0], np.cumsum(whole)])
    return hashes[whole], kept[offsets]


def minhashes(texts: Sequence[str]) -> np.ndarray:
    """uint32 [texts, NUM_PERM]: signatures of normalised texts."""
    if not texts:
        return np.empty((0, NUM_PERM), np.uint32)
    hashes, offsets = shingles(texts)
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(
        hashes, offsets.astype(np.uint64), NUM_PERM, _SEED
    )
    return np.array(matrix.to_rows(), np.uint32)


def shingle_set(text: str) -> np.ndarray:
    """uint64: the sorted distinct shingles of one text, which need not be normalised."""
    return np.unique(shingles([normalised(text)])[0])


def jaccard(one: np.ndarray, other: np.ndarray) -> float:
    """Share of the shingles of two texts that both have; 1 for two empty texts."""
    if not len(one) or not len(other):
        return float(len(one) == len(other))
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)
