"""Independent jobs over worker processes, or here where there is too little to share."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from data_modules.faults import DataFault, Fault

Job = TypeVar("Job")
Result = TypeVar("Result")

# A worker takes seconds to start: fewer bytes than this are faster done in one process.
SMALL_BYTES = 16_000_000


# Told how far a stage of the work is (its name, done, total); ``launch/prepare.py`` draws it.
Progress = Callable[[str, int, int], None]


def silent(_stage: str, _done: int, _total: int) -> None:
    """Tells nobody."""


def workers_for(asked: int | None, size: int) -> int:
    """Processes for ``size`` bytes of rows: those asked for, else one a core if there is enough."""
    if size < SMALL_BYTES:
        return 1
    return asked or len(os.sched_getaffinity(0))


def run_jobs(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    stage: str,
    progress: Progress = silent,
    setup: Callable[..., None] | None = None,
    setup_arguments: tuple[Any, ...] = (),
) -> list[Result]:
    """``[work(job) for job in jobs]``, whichever process does each.

    Args:
        setup: called with ``setup_arguments`` once in every process before its first job.

    Raises:
        DataFault: the faults of all jobs that raised one.
    """
    results: dict[int, Result] = {}
    faults: dict[int, list[Fault]] = {}
    progress(stage, 0, len(jobs))
    with closing(_outcomes(work, jobs, workers, setup, setup_arguments)) as outcomes:
        for number, outcome in outcomes:
            try:
                results[number] = outcome()
            except DataFault as fault:
                faults[number] = fault.faults
            except BrokenProcessPool as error:
                raise RuntimeError(
                    f"a worker process of '{stage}' was killed, most often for want of memory; "
                    "lower data.workers. What is finished is kept, the same command continues"
                ) from error
            progress(stage, len(results) + len(faults), len(jobs))
    if faults:
        raise DataFault([fault for number in sorted(faults) for fault in faults[number]])
    return [results[number] for number in range(len(jobs))]


def _outcomes(
    work: Callable[[Job], Result],
    jobs: Sequence[Job],
    workers: int,
    setup: Callable[..., None] | None,
    setup_arguments: tuple[Any, ...],
) -> Generator[tuple[int, Callable[[], Result]], None, None]:
    """(job number, its result or exception), as they come; once closed, no further job is begun."""
    if workers == 1 or len(jobs) < 2:
        if setup is not None and jobs:
            setup(*setup_arguments)
        for number, job in enumerate(jobs):
            yield number, partial(work, job)
        return
    # spawn: the parent may be a rank, whose threads and process group do not survive a fork
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(jobs)), context, initializer=setup, initargs=setup_arguments
    ) as pool:
        numbers = {pool.submit(work, job): number for number, job in enumerate(jobs)}
        try:
            for future in as_completed(numbers):
                yield numbers[future], future.result
        finally:
            pool.shutdown(cancel_futures=True)
