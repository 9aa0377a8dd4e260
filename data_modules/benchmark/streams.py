"""Random streams that are named, not numbered.

A stream is seeded by the names of what it feeds (seed, split, task, ...). Adding a task, or asking
for more rows of one, therefore leaves every other row as it was, and a longer stream begins with
the shorter one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Stream:
    """Draws that depend on nothing but the names given to the constructor.

    Only `random.Random.random` is used: Python promises its sequence for a given seed across
    versions, which it does not for `sample` or `shuffle`.
    """

    def __init__(self, *names: object) -> None:
        self._draw = random.Random("/".join(str(name) for name in names)).random

    def chance(self, probability: float) -> bool:
        """True with the given probability."""
        return self._draw() < probability

    def below(self, bound: int) -> int:
        """A whole number in 0..bound-1."""
        return int(self._draw() * bound)

    def choice(self, options: Sequence[T]) -> T:
        """One of `options`, all equally likely."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[T], count: int) -> list[T]:
        """`count` different ones of `options`, in random order (the head of a Fisher-Yates
        shuffle)."""
        pool = list(options)
        for i in range(count):
            j = i + self.below(len(pool) - i)
            pool[i], pool[j] = pool[j], pool[i]
        return pool[:count]
