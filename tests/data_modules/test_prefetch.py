"""Prefetching: the same items in the same order, made ahead, faults where they belong."""

from __future__ import annotations

import threading
import time

import pytest

from data_modules.prefetch import prefetched


def test_items_come_in_order_and_each_once() -> None:
    assert [item for item, _ in prefetched(lambda n: n * n, 7)] == [0, 1, 4, 9, 16, 25, 36]
    assert list(prefetched(lambda n: n, 0)) == []


def test_the_next_items_are_made_while_one_is_used() -> None:
    made: list[int] = []
    ready = threading.Event()

    def make(number: int) -> int:
        made.append(number)
        if number == 1:
            ready.set()
        return number

    items = prefetched(make, 5)
    assert next(items)[0] == 0
    assert ready.wait(5), "item 1 is made before it is asked for"
    time.sleep(0.05)
    assert made == [0, 1], "no more than `ahead` are made beforehand"


def test_waiting_is_measured() -> None:
    waits = [wait for _, wait in prefetched(lambda _: time.sleep(0.02), 3)]
    assert sum(waits) >= 0.05


def test_an_exception_comes_in_the_place_of_its_item() -> None:
    def make(number: int) -> int:
        if number == 1:
            raise ValueError("row 1")
        return number

    items = prefetched(make, 3)
    assert next(items)[0] == 0
    with pytest.raises(ValueError, match="row 1"):
        next(items)
