"""Garbage is searched for at set steps, and Python is left as it was."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator

import pytest

from trainer.garbage import collected_at_set_steps


class Node:
    """A thing that refers to itself."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    thresholds, frozen = (
        gc.get_threshold(),
        gc.get_freeze_count(),
    )  # Python 3.12 freezes some itself
    yield
    assert gc.get_threshold() == thresholds
    assert gc.get_freeze_count() <= frozen


def old_garbage() -> weakref.ref[Node]:
    """A cycle that only a full search finds."""
    node = Node()
    gc.collect(1)
    gc.collect(1)  # two searches of the young make it old
    return weakref.ref(node)


def churn() -> None:
    """Enough containers for several automatic searches of the old, were they on."""
    kept = []
    for _ in range(40):
        kept.append([[] for _ in range(20_000)])
        if len(kept) > 2:
            kept.pop(0)


def test_old_garbage_is_found_at_set_steps_alone() -> None:
    with collected_at_set_steps(3) as collect:
        garbage = old_garbage()
        for step in (1, 2, 4, 5):
            collect(step)
            churn()
            assert garbage() is not None
        collect(6)
        assert garbage() is None
        # what survived is left out from here on, what comes is not
        assert gc.get_freeze_count() > 0
        garbage = old_garbage()
        collect(9)
        assert garbage() is None


def test_young_garbage_is_found_as_ever() -> None:
    with collected_at_set_steps(1000):
        garbage = weakref.ref(Node())
        churn()
        assert garbage() is None


def test_python_is_left_as_it_was_by_an_error_too() -> None:
    def fails() -> None:
        with collected_at_set_steps(1) as collect:
            collect(1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
