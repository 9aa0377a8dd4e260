"""Runs the hostile programs with other rights than the tests have, and prints the outcomes.

    python hostile_worker.py FILE [nobody] [without-landlock]

``FILE`` holds a JSON list of triples: program, tests, whether it only waits. As a process
of its own, because rights that are given up do not come back.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import struct
import sys
from dataclasses import asdict, replace
from pathlib import Path

from trainer.evaluation.sandbox import Limits, Outcome, check_limits, run_many

NOBODY = 65534
LIMITS = Limits(
    seconds=30, cpu_seconds=1, memory_bytes=256 << 20, file_bytes=1 << 20, output_bytes=1 << 16
)


def refuse(first: int, last: int, architecture: int) -> None:
    """Lets system calls fail with ENOSYS, as on a kernel that does not know them."""
    rules = [
        (0x20, 0, 0, 4),
        (0x15, 0, 4, architecture),
        (0x20, 0, 0, 0),
        (0x35, 0, 2, first),
        (0x25, 1, 0, last),
        (0x06, 0, 0, 0x00050000 | 38),
        (0x06, 0, 0, 0x7FFF0000),
    ]
    code = b"".join(struct.pack("<HBBI", *rule) for rule in rules)

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    libc = ctypes.CDLL(None, use_errno=True)
    program = Program(len(rules), code)
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0


def run_all(cases: list[tuple[str, str, bool]]) -> list[Outcome]:
    """Outcomes of programs; those that only wait have a second to do so."""
    found: dict[int, Outcome] = {}
    for waits, limits in ((False, LIMITS), (True, replace(LIMITS, seconds=1))):
        numbers = [number for number, case in enumerate(cases) if case[2] == waits]
        programs, tests = [cases[n][0] for n in numbers], [cases[n][1] for n in numbers]
        found |= zip(numbers, run_many(programs, limits, workers=2, tests=tests), strict=True)
    return [found[number] for number in range(len(cases))]


def main() -> None:
    cases = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    if "without-landlock" in sys.argv:
        refuse(444, 446, {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}[platform.machine()])
    if "nobody" in sys.argv:
        os.setgroups([])
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(NOBODY, NOBODY, NOBODY)
    protection = check_limits()
    outcomes = run_all(cases)
    found = {
        "user": os.getuid(),
        "landlock": protection.landlock,
        "outcomes": [asdict(outcome) for outcome in outcomes],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
