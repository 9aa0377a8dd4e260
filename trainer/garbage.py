"""Python's search for garbage in cycles, at set steps instead of whenever its counters say so.

A full search looks at every container of the process: hundreds of thousands once PyTorch and the libraries
around it are loaded, which takes tenths of a second. Python starts one at a moment of its own on every
rank, and as each step waits for the slowest rank, many ranks make many pauses. So all ranks search behind
the same steps, and the first search takes what it leaves out of those that follow: they see what came
since. Young objects are searched as ever: that is cheap, and most garbage is young.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_NEVER = 2**31 - 1  # a threshold of 0 would mean each time


@contextmanager
def collected_at_set_steps(every: int) -> Iterator[Callable[[int], None]]:
    """Inside, the search comes where the yielded function is told of a step that it is time at.

    What the process had before is put back at the end, whatever ends it.

    Args:
        every: global steps between two searches.
    """
    frozen = False

    def after_step(global_step: int) -> None:
        nonlocal frozen
        if global_step % every:
            return
        gc.collect()
        if not frozen:
            gc.freeze()
            frozen = True

    thresholds = gc.get_threshold()
    gc.set_threshold(*thresholds[:2], _NEVER)
    try:
        yield after_step
    finally:
        gc.set_threshold(*thresholds)
        if frozen:
            gc.unfreeze()
