"""Jobs for worker processes, which find them by the name of this module."""

from __future__ import annotations

import os
import signal
import time

from data_modules.faults import DataFault, Fault

STATE: dict[str, int] = {}


def remember(value: int) -> None:
    STATE["added"] = value


def slow_first(number: int) -> int:
    """The earlier the job, the later it ends."""
    time.sleep(max(0.0, 0.3 - 0.1 * number))
    return 10 * number + STATE.get("added", 0)


def faulty(number: int) -> int:
    """Odd jobs find faults, job n finds n of them."""
    time.sleep(max(0.0, 0.2 - 0.05 * number))
    if number % 2:
        raise DataFault([Fault(f"f:{number}", str(one), "even") for one in range(number)])
    return number


def surprised(number: int) -> int:
    raise LookupError(f"job {number}")


def killed(number: int) -> int:
    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number
