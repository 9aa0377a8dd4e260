"""Tests of a code row: all assertions must have been reached."""

from __future__ import annotations

import pytest

from trainer.evaluation import sandbox
from trainer.evaluation.sandbox import Outcome, run_many, run_tests

PROGRAM = "def double(x):\n    if x is None: raise ValueError('none')\n    return 2 * x\n"


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ("assert double(2) == 4", ""),
        ("assert double(2) == 5", "assertion"),
        ("assert double(2) == 4\nassert double(3) == 7", "assertion"),
        ("def check(f):\n    assert f(1) == 2\n    assert f(2) == 4\ncheck(double)", ""),
        # never called: nothing was shown
        ("def check(f):\n    assert f(1) == 2\nassert double(1) == 2", "exit"),
        ("for i in range(3):\n    assert double(i) == 2 * i", ""),
        ("for i in []:\n    assert double(i) == 2 * i", "exit"),
        # a guard that must not be reached
        (
            "try:\n    double(None)\n    assert False\nexcept ValueError as e:\n    assert str(e)",
            "",
        ),
        (
            "try:\n    double(1)\n    assert False\nexcept ValueError as e:\n    assert str(e)",
            "assertion",
        ),
        ("import asyncio\nasync def f():\n    assert double(1) == 2\nasyncio.run(f())", ""),
        ("assert undefined(1) == 2", "error"),
        ("raise SystemExit\nassert double(1) == 2", "exit"),
        ("", "tests"),
        ("print(double(1))", "tests"),
        ("assert double(1", "tests"),
        ("assert False", "tests"),
    ],
)
def test_reasons(tests: str, reason: str) -> None:
    outcome = run_tests(PROGRAM, tests)
    assert (outcome.reason, outcome.ok) == (reason, reason == "")


def test_a_main_guard_does_not_run_under_tests() -> None:
    program = PROGRAM + "if __name__ == '__main__':\n    print(double(int(input())))\n"
    outcome = run_tests(program, "assert double(1) == 2")
    assert outcome == Outcome(ok=True, stdout="", stderr="", reason="")


def test_faults_of_tests_are_told_before_anything_runs() -> None:
    assert sandbox.tests_fault("assert f(1) == 2") == ""
    assert sandbox.tests_fault("f(1)") == "the tests assert nothing"
    assert sandbox.tests_fault("assert (").startswith("the tests are not Python: ")
    assert sandbox.tests_fault("x = " + "(" * 5000).startswith("the tests are not Python: ")


def test_each_program_meets_its_own_tests() -> None:
    programs = [f"def f(): return {i}" for i in range(4)]
    tests = [f"assert f() == {i if i != 2 else 9}" for i in range(4)]
    assert [o.ok for o in run_many(programs, tests=tests)] == [True, True, False, True]
