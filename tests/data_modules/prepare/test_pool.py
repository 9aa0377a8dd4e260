"""Jobs over worker processes: results in order, every fault, and a clear word when one is killed."""

from __future__ import annotations

import os

import pytest

from data_modules.faults import DataFault
from data_modules.prepare import pool
from data_modules.prepare.pool import run_jobs, workers_for
from tests.data_modules.prepare.made_jobs import (
    STATE,
    faulty,
    killed,
    remember,
    slow_first,
    surprised,
)

JOBS = list(range(5))


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_the_order_of_the_jobs(workers: int) -> None:
    told: list[tuple[str, int, int]] = []
    try:
        results = run_jobs(
            slow_first,
            JOBS,
            workers,
            "add",
            lambda *one: told.append(one),
            setup=remember,
            setup_arguments=(7,),
        )
    finally:
        STATE.clear()
    assert results == [7, 17, 27, 37, 47]
    assert told == [("add", done, 5) for done in range(6)]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_faults_of_all_jobs_come_together_in_their_order(workers: int) -> None:
    with pytest.raises(DataFault) as caught:
        run_jobs(faulty, JOBS, workers, "check")
    assert [(one.where, one.seen) for one in caught.value.faults] == [
        ("f:1", "0"),
        *(("f:3", str(number)) for number in range(3)),
    ]


@pytest.mark.parametrize("workers", [1, 2])
def test_our_own_errors_come_through(workers: int) -> None:
    with pytest.raises(LookupError, match="job 0"):
        run_jobs(surprised, [0, 0], workers, "look")


def test_a_killed_worker_is_told_with_what_to_do() -> None:
    with pytest.raises(RuntimeError) as caught:
        run_jobs(killed, JOBS, 2, "tokenise (mix)")
    assert str(caught.value) == (
        "a worker process of 'tokenise (mix)' was killed, most often for want of memory; "
        "lower data.workers. What is finished is kept, the same command continues"
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_nothing_to_do_sets_nothing_up(workers: int) -> None:
    def refuse() -> None:
        raise AssertionError("set up")

    assert run_jobs(slow_first, [], workers, "none", setup=refuse) == []


def test_few_bytes_are_done_here(monkeypatch: pytest.MonkeyPatch) -> None:
    assert workers_for(8, pool.SMALL_BYTES - 1) == 1
    assert workers_for(8, pool.SMALL_BYTES) == 8
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    assert workers_for(None, pool.SMALL_BYTES) == 3
