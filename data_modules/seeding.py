"""Random generators seeded by names, never by list positions.

``generator(0, "mix", "qa", 1)`` is the same stream whatever other phases or tasks exist, so adding a
task never reshuffles the rest.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_of(seed: int, *names: str | int) -> int:
    """128-bit seed derived from the run seed and a path of names.

    Names are length-prefixed before hashing, so ``("ab", "c")`` and ``("a", "bc")`` differ.
    """
    digest = hashlib.sha256(str(int(seed)).encode())
    for name in names:
        text = str(name).encode()
        digest.update(f"/{len(text)}:".encode() + text)
    return int.from_bytes(digest.digest()[:16], "little")


def generator(seed: int, *names: str | int) -> np.random.Generator:
    """A NumPy PCG64 generator for this run seed and path of names."""
    return np.random.Generator(np.random.PCG64(seed_of(seed, *names)))
