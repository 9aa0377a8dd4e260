"""The place of the main thread: cheap to say, and pauses end where they began."""

from __future__ import annotations

import time

from trainer.watchdog.places import at, here, paused


def test_a_place_is_known_and_counted() -> None:
    at("step 1")
    first = here()
    at("step 1: sums", waits=True)
    second = here()
    assert (first.words, first.waits, first.paused) == ("step 1", False, False)
    assert (second.words, second.waits) == ("step 1: sums", True)
    assert second.number == first.number + 1
    assert first.since <= second.since <= time.monotonic()


def test_saying_so_costs_about_a_microsecond() -> None:
    def seconds() -> float:
        begin = time.perf_counter()
        for _ in range(20_000):
            at("step 12: backward")
        return (time.perf_counter() - begin) / 20_000

    assert min(seconds() for _ in range(10)) < 3e-6


def test_a_pause_ends_where_it_began_with_a_new_clock() -> None:
    at("step 5")
    before = here()
    with paused("preparing data"):
        assert here().paused
        with paused("planning"):
            pass
        assert (here().words, here().paused) == ("preparing data", True)
        at("file 3")
        assert (here().words, here().paused) == ("file 3", True)
        time.sleep(0.01)
    after = here()
    assert (after.words, after.paused) == ("step 5", False)
    assert after.since >= before.since + 0.01
    assert after.number > before.number
