"""Runs programs, alone or many at a time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from trainer.evaluation.sandbox.check import check_limits
from trainer.evaluation.sandbox.limits import Limits, Outcome
from trainer.evaluation.sandbox.machine import machinery
from trainer.evaluation.sandbox.process import execute
from trainer.evaluation.sandbox.tests_code import ready, tests_fault

#: Limits that no caller named.
USUAL = Limits()


def run_python(program: str, limits: Limits = USUAL) -> Outcome:
    """Runs a program as ``__main__``, with nothing on standard input.

    It is ok when it ran to its last line and its threads ended; ``sys.exit(0)`` is not a last line.

    Raises:
        ConfigFault: this machine cannot limit programs; the program has not run.
    """
    return run_many([program], limits, workers=1)[0]


def run_tests(program: str, tests: str, limits: Limits = USUAL) -> Outcome:
    """Runs a program as a module, then assertions in its namespace.

    It is ok when every ``assert`` of the tests was reached and held (``assert False`` is a guard that
    must not be reached). Tests that assert nothing end in the reason ``tests``: such a row judges nobody.

    Raises:
        ConfigFault: this machine cannot limit programs; the program has not run.
    """
    return run_many([program], limits, workers=1, tests=[tests])[0]


def run_many(
    programs: Sequence[str],
    limits: Limits = USUAL,
    workers: int | None = None,
    tests: Sequence[str] | None = None,
) -> list[Outcome]:
    """Runs programs, ``workers`` at a time; the outcomes are in the order of the programs.

    Args:
        programs: one text per program.
        limits: of each.
        workers: programs at one time; by default as many as this process has cores. Ranks that share
            a machine share its cores too.
        tests: assertions per program, as in ``run_tests``; without them as in ``run_python``.

    Raises:
        ConfigFault: this machine cannot limit programs; none has run.
    """
    check_limits()
    here = machinery()

    def run(program: str, assertions: str | None) -> Outcome:
        if assertions is not None and (fault := tests_fault(assertions)):
            return Outcome(ok=False, stdout="", stderr=fault, reason="tests")
        return execute(program, ready(assertions or ""), limits, here)

    wanted: Sequence[str | None] = [None] * len(programs) if tests is None else tests
    cores = len(os.sched_getaffinity(0))
    with ThreadPoolExecutor(max_workers=workers or cores) as pool:
        futures = [pool.submit(run, *pair) for pair in zip(programs, wanted, strict=True)]
        return [future.result() for future in futures]
