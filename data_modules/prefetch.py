"""Items made ahead in a thread, so that training does not wait for its batches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def prefetched(make: Callable[[int], T], count: int, ahead: int = 2) -> Iterator[tuple[T, float]]:
    """``make(0)`` .. ``make(count - 1)`` in order, each with the seconds that were waited for it.

    ``ahead`` items are made beforehand, one at a time. An exception of ``make`` is raised where its
    item would have come.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        waiting: deque[Future[T]] = deque()
        started = 0
        try:
            for _ in range(count):
                while started < count and len(waiting) < ahead:
                    waiting.append(pool.submit(make, started))
                    started += 1
                begin = time.perf_counter()
                item = waiting.popleft().result()
                yield item, time.perf_counter() - begin
        finally:
            for future in waiting:
                future.cancel()
