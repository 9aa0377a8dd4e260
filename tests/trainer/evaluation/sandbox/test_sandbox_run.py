"""What honest programs may do, what they are given, and how their outcomes are told."""

from __future__ import annotations

import os
import sys
import time

import pytest

from data_modules.faults import ConfigFault
from trainer.evaluation.sandbox import Limits, Outcome, check, run_many, run_python, run_tests
from trainer.evaluation.sandbox.machine import machinery

HONEST = {
    "files": "with open('a', 'w') as f: f.write('1')\nimport os\nos.rename('a', 'b')\n"
    "os.mkdir('d')\nassert open('b').read() == '1'\nos.remove('b')\nos.rmdir('d')",
    "temporary files": "import tempfile\nwith tempfile.NamedTemporaryFile() as f: f.write(b'1')\n"
    "with tempfile.TemporaryDirectory() as d: open(d + '/x', 'w').close()",
    "threads": "from concurrent.futures import ThreadPoolExecutor\n"
    "with ThreadPoolExecutor(8) as pool: assert sum(pool.map(abs, range(-9, 0))) == 45",
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 1\n"
    "assert asyncio.run(f()) == 1\n"
    "async def g(): return await asyncio.to_thread(sum, [1, 2])\nassert asyncio.run(g()) == 3",
    "libraries": "import json, re, math, random, decimal, datetime, collections, itertools, heapq\n"
    "import sqlite3, hashlib, zoneinfo, ctypes, csv, unittest, dataclasses, typing, fractions\n"
    "assert sqlite3.connect(':memory:').execute('select 1').fetchone() == (1,)\n"
    "import uuid, platform, inspect, pickle, tempfile, subprocess, socket, multiprocessing, logging",
    "data classes": "from __future__ import annotations\nfrom dataclasses import dataclass\nimport pickle\n"
    "@dataclass\nclass P:\n    x: int\nassert pickle.loads(pickle.dumps(P(1))) == P(1)",
    "signals": "import signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\n"
    "signal.setitimer(signal.ITIMER_REAL, 0.01)\nsignal.pause()",
    "recursion": "import sys\nsys.setrecursionlimit(5000)\n"
    "def f(n): return n and f(n - 1)\nassert f(4000) == 0",
    "own standard output": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer)\nprint(1)",
}


@pytest.mark.parametrize("name", HONEST)
def test_honest_programs_run(name: str) -> None:
    if "'w'" in HONEST[name] and not machinery().landlock:
        pytest.skip("this kernel has no Landlock: programs write no files")
    outcome = run_python(HONEST[name])
    assert (outcome.ok, outcome.reason, outcome.stderr) == (True, "", "")
    assert run_tests(HONEST[name] + "\nanswer = 1", "assert answer == 1").ok


def test_a_program_sees_a_fixed_world(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "swordfish")
    program = (
        "import os, sys\nprint(sorted(os.environ))\nprint(hash('a'), os.listdir('.'), sys.argv)\n"
        "sites = [path for path in sys.path if 'site' in path]\n"
        "print(__name__, sys.flags.optimize, sys.stdin.read() == '', sites)\n"
        "opened = 0\nfor fd in range(3, 1024):\n    try: os.fstat(fd)\n    except OSError: continue\n"
        "    opened += 1\nprint(opened)"
    )
    with open(os.devnull) as inherited:  # noqa: PTH123
        os.set_inheritable(inherited.fileno(), True)
        first, second = run_many([program, program])
    assert first.ok
    assert first == second
    lines = first.stdout.splitlines()
    variables = eval(lines[0])
    assert "HF_TOKEN" not in variables
    assert {"HOME", "TMPDIR", "PYTHONHASHSEED", "OMP_NUM_THREADS"} <= set(variables) <= {
        "HOME", "LANG", "LC_CTYPE", "LD_LIBRARY_PATH", "MALLOC_ARENA_MAX", "MKL_NUM_THREADS",
        "NUMEXPR_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "PYTHONHASHSEED", "TMPDIR",
    }  # fmt: skip
    assert lines[1].endswith(" [] ['program.py']")
    assert lines[2:] == ["__main__ 0 True []", "2"]  # its two pipes to the harness


def test_outcomes_come_in_the_order_of_the_programs() -> None:
    programs = [
        f"import time\ntime.sleep({0.3 if i % 3 == 0 else 0})\nprint({i})" for i in range(9)
    ]
    found = run_many(programs, workers=3)
    assert [outcome.stdout for outcome in found] == [f"{i}\n" for i in range(9)]


def test_workers_bound_how_many_run_at_once() -> None:
    programs = ["import time\ntime.sleep(0.4)"] * 4
    start = time.monotonic()
    assert all(outcome.ok for outcome in run_many(programs, workers=1))
    assert time.monotonic() - start > 1.6


@pytest.mark.parametrize(
    ("program", "reason", "told"),
    [
        ("1 / 0", "error", 'File "<program>", line 1'),
        ("assert False", "error", "AssertionError"),
        ("def f(:", "error", "SyntaxError"),
        ("print('before')\nraise SystemExit(3)", "exit", "SystemExit"),
    ],
)
def test_a_failure_says_what_it_was(program: str, reason: str, told: str) -> None:
    outcome = run_python(program)
    assert (outcome.ok, outcome.reason) == (False, reason)
    assert told in outcome.stderr
    assert "bootstrap" not in outcome.stderr
    assert outcome.stdout == ("before\n" if "before" in program else "")


def test_output_is_cut_at_its_limit_and_replaces_what_is_not_text() -> None:
    outcome = run_python("print('x' * 5000)", Limits(output_bytes=1000))
    assert outcome == Outcome(ok=False, stdout="x" * 1000, stderr="", reason="output")
    assert run_python("print('x' * 999)", Limits(output_bytes=1000)).ok
    assert run_python("import os\nos.write(1, b'\\xff')").stdout == "\ufffd"


def test_limits_are_those_asked_for() -> None:
    hold = "held = bytearray(200 << 20)"
    assert run_python(hold, Limits(memory_bytes=512 << 20)).ok
    assert run_python(hold, Limits(memory_bytes=128 << 20)).reason == "memory"
    start = time.monotonic()
    assert run_python("import time\ntime.sleep(30)", Limits(seconds=0.5)).reason == "timeout"
    assert time.monotonic() - start < 10
    if machinery().landlock:
        write = "open('f', 'wb').write(bytes(100000))"
        assert run_python(write, Limits(file_bytes=200000)).ok
        assert run_python(write, Limits(file_bytes=50000)).reason == "output"


def test_what_was_printed_before_a_timeout_is_kept() -> None:
    program = "print('early', flush=True)\nimport time\ntime.sleep(30)"
    assert run_python(program, Limits(seconds=0.5)).stdout == "early\n"


def test_a_machine_that_cannot_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ConfigFault, match="Linux on riscv64; programs are confined on Linux"):
        machinery()


def test_a_limit_that_does_not_hold_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = check.execute

    def loose(program: str, *rest: object) -> Outcome:
        if "socket" in program:
            return Outcome(ok=True, stdout="", stderr="", reason="")
        return kept(program, *rest)

    monkeypatch.setattr(check, "execute", loose)
    with pytest.raises(ConfigFault, match=r"trial 'network' ended in 'success'") as caught:
        check.check_limits.__wrapped__()
    assert len(caught.value.faults) == 1


def test_an_interpreter_that_does_not_start_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    check.check_limits()
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ConfigFault, match="the interpreter did not start"):
        run_python("print(1)")
