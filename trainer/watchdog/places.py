"""Where in its work this rank is: one store per call, read by the watchdog's thread."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple


class Place(NamedTuple):
    """Where the main thread said it is.

    Attributes:
        words: as shown to the user.
        since: monotonic time of its coming here.
        number: places so far; ranks that do the same work count alike.
        paused: it may stay here for as long as it takes.
        waits: it waits for the other ranks here, though not inside a call that shows it.
    """

    words: str
    since: float
    number: int
    paused: bool = False
    waits: bool = False


class _Board:
    """Holds the place; a class, since storing an attribute is cheaper than rebinding a global."""

    place = Place("starting", time.monotonic(), 0)


def at(words: str, *, waits: bool = False) -> None:
    """The main thread comes to a place, such as ``step 12: backward``; costs about a microsecond.

    Within :func:`paused` it stays a pause.

    Args:
        waits: nothing happens here but waiting for other ranks or for the device.
    """
    before = _Board.place
    _Board.place = Place(words, time.monotonic(), before.number + 1, before.paused, waits)


def here() -> Place:
    """The place the main thread is at."""
    return _Board.place


@contextmanager
def paused(words: str) -> Iterator[None]:
    """Work that has no bound, such as preparing data: staying here is no stall.

    Death and silence of a rank are noticed here too. On every rank that waits for such work.
    """
    before = _Board.place
    _Board.place = Place(words, time.monotonic(), before.number + 1, True)
    try:
        yield
    finally:
        number = _Board.place.number + 1
        _Board.place = before._replace(since=time.monotonic(), number=number)
