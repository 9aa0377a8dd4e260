"""Trials that show whether programs can be limited on this machine."""

from __future__ import annotations

import functools
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from data_modules.faults import ConfigFault, Fault
from trainer.evaluation.sandbox.limits import Limits, Outcome, Reason
from trainer.evaluation.sandbox.machine import machinery
from trainer.evaluation.sandbox.process import execute
from trainer.evaluation.sandbox.tests_code import ready

CANARY = "unchanged"


@dataclass(frozen=True, slots=True)
class Trial:
    """A program that must end in a certain way.

    Attributes:
        limit: what is tried, in words.
        program: ``{canary}`` stands for a file outside.
        reason: how it must end.
    """

    limit: str
    program: str
    reason: Reason


LIMITS = Limits(
    seconds=30.0, cpu_seconds=1, memory_bytes=256 << 20, file_bytes=1 << 20, output_bytes=1 << 16
)
HASTE = Limits(seconds=0.2, cpu_seconds=1)
WAITING = Trial("wall clock", "import time\ntime.sleep(60)", "timeout")
TRIALS = (
    Trial("a harmless program runs", "print(sum(range(10)))", ""),
    Trial("CPU time", "while True: pass", "timeout"),
    Trial("memory", "held = bytearray(1 << 30)", "memory"),
    Trial("output", "while True: print('x' * 1000)", "output"),
    Trial("processes", "import os\nos.fork()", "forbidden"),
    Trial("other programs", "import os\nos.execv('/bin/true', ['true'])", "forbidden"),
    Trial("network", "import socket\nsocket.socket()", "forbidden"),
    Trial("signals to others", "import os\nos.kill(os.getppid(), 0)", "forbidden"),
    Trial("writing outside", "open({canary!r}, 'a')", "forbidden"),
    Trial("removing outside", "import os\nos.unlink({canary!r})", "forbidden"),
)
#: Only where Landlock confines files.
CONFINED_TRIALS = (
    Trial("reading outside", "open({canary!r})", "forbidden"),
    Trial("file size", "open('full', 'wb').write(bytes(1 << 22))", "output"),
)


@dataclass(frozen=True, slots=True)
class Protection:
    """How files are protected here.

    Attributes:
        landlock: version of Landlock's interface; 0: programs can write nothing, but read every file of
            this user.
    """

    landlock: int


@functools.cache
def check_limits() -> Protection:
    """Tries every limit once per process (about two seconds).

    Raises:
        ConfigFault: limits that do not hold here, all of them.
    """
    here = machinery()
    trials = [*TRIALS, *(CONFINED_TRIALS if here.landlock else ())]
    with tempfile.TemporaryDirectory() as folder:
        canary = Path(folder) / "canary"
        canary.write_text(CANARY, encoding="utf-8")

        def attempt(trial: Trial) -> Outcome:
            text = trial.program.replace("{canary!r}", repr(str(canary)))
            limits = HASTE if trial is WAITING else LIMITS
            return execute(text, ready(""), limits, here)

        with ThreadPoolExecutor(max_workers=2) as pool:
            outcomes = list(pool.map(attempt, [*trials, WAITING]))
        faults = [
            Fault(
                "execution of programs",
                f"the trial {trial.limit!r} ended in {outcome.reason or 'success'!r}",
                f"it must end in {trial.reason or 'success'!r}",
                "Evaluate on a machine or in a container where seccomp and resource limits work, or "
                "choose metrics that execute no programs.",
            )
            for trial, outcome in zip([*trials, WAITING], outcomes, strict=True)
            if outcome.reason != trial.reason
        ]
        if not canary.exists() or canary.read_text(encoding="utf-8") != CANARY:
            rule = "a program changes nothing outside its folder"
            faults.append(Fault("execution of programs", "a file outside was changed", rule))
    if faults:
        raise ConfigFault(faults)
    return Protection(here.landlock)
