"""What this machine offers for confining a process."""

from __future__ import annotations

import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from data_modules.faults import ConfigFault, Fault
from trainer.evaluation.sandbox.filter import assemble
from trainer.evaluation.sandbox.syscalls import MACHINES

LANDLOCK_CREATE_RULESET, LANDLOCK_CREATE_RULESET_VERSION = 444, 1


@dataclass(frozen=True, slots=True)
class Machinery:
    """What programs are confined with here.

    Attributes:
        processor: a key of ``syscalls.MACHINES``.
        landlock: version of Landlock's interface; 0 where the kernel has none.
        tasks: processes and threads that this user has now.
    """

    processor: str
    landlock: int
    tasks: int

    def filter(self, pid: int) -> bytes:
        """The seccomp filter of a process."""
        return assemble(self.processor, pid, confined=self.landlock > 0)


def machinery() -> Machinery:
    """Looks at the machine.

    Raises:
        ConfigFault: another system or processor, for which no filter is written.
    """
    processor = platform.machine()
    if platform.system() != "Linux" or processor not in MACHINES:
        raise ConfigFault(
            Fault(
                "execution of programs",
                f"{platform.system()} on {processor}",
                f"programs are confined on Linux, on {' or '.join(MACHINES)}",
                "Evaluate there, or choose metrics that execute no programs.",
            )
        )
    return Machinery(processor, landlock_version(), tasks_of_user())


def landlock_version() -> int:
    """Version of the kernel's Landlock interface, 0 where there is none or it may not be used."""
    libc = ctypes.CDLL(None, use_errno=True)
    number, flag = ctypes.c_long(LANDLOCK_CREATE_RULESET), LANDLOCK_CREATE_RULESET_VERSION
    return max(0, libc.syscall(number, None, ctypes.c_size_t(0), ctypes.c_long(flag)))


def tasks_of_user() -> int:
    """Threads of all processes of this user: what the kernel counts against RLIMIT_NPROC."""
    user, count = os.getuid(), 0
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                if process.stat().st_uid == user:
                    count += sum(1 for _ in (process / "task").iterdir())
            except OSError:
                continue
    return count
