"""What a program may use, and how its run ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

#: How a run ended; "" is the only end that counts as a success.
#:
#: - ``error``: an exception that nothing caught; ``assertion``: an assertion of the tests failed.
#: - ``exit``: it left before its end (``sys.exit(0)``, ``os._exit(0)``), or its tests were cut short.
#: - ``timeout``: wall-clock or CPU seconds; ``memory``: an allocation was refused.
#: - ``output``: it printed too much or filled its folder; ``forbidden``: it died of a refused call.
#: - ``killed``: a signal ended it (a crash, its own SIGKILL, the kernel short of memory).
#: - ``tests``: the tests prove nothing (no assertion, or not Python); the program was not run.
Reason = Literal[
    "",
    "error",
    "assertion",
    "exit",
    "timeout",
    "memory",
    "output",
    "forbidden",
    "killed",
    "tests",
]


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use.

    Attributes:
        seconds: wall clock, from the moment the program starts; the interpreter's start is apart.
        cpu_seconds: CPU time of all threads together, whole seconds, the interpreter's start included;
            one second more for a program that catches SIGXCPU.
        memory_bytes: address space, the interpreter's own (about 20 MB) included.
        file_bytes: each file it writes, and all that its private folder holds (looked at ten times a
            second, so more may be there for a moment; at most 1000 files and folders).
        output_bytes: each of standard output and standard error.
    """

    seconds: float = 20.0
    cpu_seconds: int = 10
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    output_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        assert self.seconds > 0, "seconds must be positive"
        assert self.cpu_seconds >= 1, "the kernel counts CPU time in whole seconds"
        assert self.memory_bytes >= 64 << 20, "the interpreter itself needs 64 MiB"
        assert self.file_bytes >= 0, "file_bytes cannot be negative"
        assert self.output_bytes >= 0, "output_bytes cannot be negative"


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program's run ended.

    Attributes:
        ok: it ran to its last line and, where there were tests, every assertion was reached and held.
        stdout, stderr: what it printed, UTF-8 with replacement characters, cut at ``output_bytes``.
        reason: "" when ok.
    """

    ok: bool
    stdout: str
    stderr: str
    reason: Reason
