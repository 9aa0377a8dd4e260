"""A seccomp filter, assembled by hand: which system calls a confined process may make."""

from __future__ import annotations

import errno
import os
import socket
import struct
import termios

from trainer.evaluation.sandbox.syscalls import ALWAYS, JUDGED, MACHINES, TREE_CHANGES

# linux/bpf_common.h and linux/seccomp.h
LOAD, AND, RETURN = 0x20, 0x54, 0x06
IF_EQUAL, IF_AT_LEAST, IF_ANY_BIT = 0x15, 0x35, 0x45
ALLOW, KILL_PROCESS = 0x7FFF0000, 0x80000000
NUMBER, ARCHITECTURE = 0, 4

CLONE_THREAD = 0x10000
PR_SET_NAME, PR_GET_NAME = 15, 16
O_TMPFILE_BIT = 0o20000000
FIOCLEX, FIONCLEX = 0x5451, 0x5450
#: fcntl commands: duplicates, flags and locks. F_SETOWN and F_SETSIG would send signals to others.
FCNTL = (0, 1, 2, 3, 4, 5, 6, 7, 36, 37, 38, 1030)
IOCTL = (termios.TCGETS, termios.TIOCGWINSZ, termios.FIONREAD, termios.FIONBIO, FIOCLEX, FIONCLEX)
#: From this number on all machines count alike, and libraries try a call and fall back on ENOSYS.
RECENT = 424

Instruction = tuple[int, int, int, int]


def refuse(code: int) -> int:
    """The verdict "fails with this errno"."""
    return 0x00050000 | code


def argument(index: int, high: bool = False) -> int:
    """Offset of one half of an argument; both machines are little-endian."""
    return 16 + 8 * index + 4 * high


def one_of(index: int, values: tuple[int, ...], otherwise: int) -> list[Instruction]:
    """Allows the call when the argument's low half is one of the values."""
    found: list[Instruction] = [(LOAD, 0, 0, argument(index))]
    for value in values:
        found += [(IF_EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
    return [*found, (RETURN, 0, 0, otherwise)]


def opening(index: int, confined: bool) -> list[Instruction]:
    """Opening files: with Landlock every way but one, without it only for reading.

    Old Landlock versions do not see that read-only opening with O_TRUNC empties the file.
    """
    if confined:
        return [
            (LOAD, 0, 0, argument(index)),
            (AND, 0, 0, os.O_ACCMODE | os.O_TRUNC),
            (IF_EQUAL, 0, 1, os.O_TRUNC),
            (RETURN, 0, 0, refuse(errno.EACCES)),
            (RETURN, 0, 0, ALLOW),
        ]
    return [
        (LOAD, 0, 0, argument(index)),
        (IF_ANY_BIT, 0, 1, os.O_ACCMODE | os.O_CREAT | os.O_TRUNC | O_TMPFILE_BIT),
        (RETURN, 0, 0, refuse(errno.EACCES)),
        (RETURN, 0, 0, ALLOW),
    ]


def judged(pid: int, confined: bool) -> dict[str, list[Instruction]]:
    """Call name -> instructions that end in a verdict."""
    no = refuse(errno.EPERM)
    return {
        # threads, never processes
        "clone": [
            (LOAD, 0, 0, argument(0)),
            (IF_ANY_BIT, 0, 1, CLONE_THREAD),
            (RETURN, 0, 0, ALLOW),
            (RETURN, 0, 0, no),
        ],
        # signals to itself alone
        "kill": one_of(0, (pid,), no),
        "tgkill": one_of(0, (pid,), no),
        "prlimit64": one_of(0, (0, pid), no),
        "ioctl": one_of(1, IOCTL, refuse(errno.ENOTTY)),
        "fcntl": one_of(1, FCNTL, no),
        "prctl": one_of(0, (PR_SET_NAME, PR_GET_NAME), no),
        # asyncio wakes itself through a pair; an address would reach sockets of others
        "socketpair": one_of(0, (int(socket.AF_UNIX),), no),
        "sendto": [
            (LOAD, 0, 0, argument(4)),
            (IF_EQUAL, 0, 2, 0),
            (LOAD, 0, 0, argument(4, high=True)),
            (IF_EQUAL, 1, 0, 0),
            (RETURN, 0, 0, no),
            (RETURN, 0, 0, ALLOW),
        ],
        "open": opening(1, confined),
        "openat": opening(2, confined),
    }


def assemble(machine: str, pid: int, confined: bool) -> bytes:
    """The filter of one process: ``struct sock_filter`` after ``struct sock_filter``.

    Args:
        machine: a key of ``syscalls.MACHINES``.
        pid: the process that the filter is for; it may signal itself.
        confined: whether Landlock confines files; without it nothing is opened for writing.
    """
    arch = MACHINES[machine]
    found: list[Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (IF_EQUAL, 1, 0, arch.audit_arch),
        (RETURN, 0, 0, KILL_PROCESS),
        (LOAD, 0, 0, NUMBER),
    ]
    if arch.foreign_from is not None:
        found += [(IF_AT_LEAST, 0, 1, arch.foreign_from), (RETURN, 0, 0, KILL_PROCESS)]
    for number in arch.numbers(ALWAYS + TREE_CHANGES * confined).values():
        found += [(IF_EQUAL, 0, 1, number), (RETURN, 0, 0, ALLOW)]
    rules = judged(pid, confined)
    for name, number in arch.numbers(JUDGED).items():
        found += [(IF_EQUAL, 0, len(rules[name]), number), *rules[name]]
    found += [
        (IF_AT_LEAST, 0, 1, RECENT),
        (RETURN, 0, 0, refuse(errno.ENOSYS)),
        (RETURN, 0, 0, refuse(errno.EPERM)),
    ]
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in found)
