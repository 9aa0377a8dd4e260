"""The seccomp filter, run by an interpreter of its own for both machines."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from trainer.evaluation.sandbox.filter import assemble
from trainer.evaluation.sandbox.syscalls import ALWAYS, JUDGED, MACHINES, TREE_CHANGES

PID = 4321
EPERM, EACCES, ENOTTY, ENOSYS = (0x00050000 | code for code in (1, 13, 25, 38))
ALLOW, KILL = 0x7FFF0000, 0x80000000
#: Numbers of x86_64 and aarch64, from the kernel's headers.
NUMBERS = {
    "read": (0, 63), "execve": (59, 221), "execveat": (322, 281), "ptrace": (101, 117),
    "socket": (41, 198), "connect": (42, 203), "bind": (49, 200), "sendmsg": (46, 211),
    "mount": (165, 40), "unshare": (272, 97), "setns": (308, 268), "bpf": (321, 280),
    "process_vm_writev": (311, 271), "memfd_create": (319, 279), "io_uring_setup": (425, 425),
    "clone": (56, 220), "clone3": (435, 435), "openat": (257, 56), "openat2": (437, 437),
    "kill": (62, 129), "tgkill": (234, 131), "tkill": (200, 130), "prlimit64": (302, 261),
    "ioctl": (16, 29), "fcntl": (72, 25), "sendto": (44, 206), "socketpair": (53, 199),
    "unlinkat": (263, 35), "renameat2": (316, 276), "mkdirat": (258, 34), "truncate": (76, 45),
    "fchmodat": (268, 53), "fchownat": (260, 54), "utimensat": (280, 88), "setsid": (112, 157),
    "setresuid": (117, 147), "capset": (126, 91), "seccomp": (317, 277), "keyctl": (250, 219),
    "prctl": (157, 167), "pidfd_open": (434, 434), "fallocate": (285, 47), "shmget": (29, 194),
}  # fmt: skip
BITS = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}


def verdict(program: bytes, number: int, arch: int, *arguments: int) -> int:
    """What the filter says of a call; the language of linux/filter.h, as far as it is used."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("<iIQ6Q", number, arch, 0, *padded)
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at = value = 0
    while True:
        kind, yes, no, operand = code[at]
        at += 1
        if kind == 0x20:
            (value,) = struct.unpack_from("<I", data, operand)
        elif kind == 0x54:
            value &= operand
        elif kind == 0x06:
            return operand
        else:
            held = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}
            at += yes if held[kind] else no


class Judge:
    def __init__(self, machine: str, confined: bool) -> None:
        self.arch = BITS[machine]
        self.column = list(BITS).index(machine)
        self.program = assemble(machine, PID, confined)

    def __call__(self, name: str, *arguments: int) -> int:
        return verdict(self.program, NUMBERS[name][self.column], self.arch, *arguments)


@pytest.fixture(params=[(machine, confined) for machine in BITS for confined in (True, False)])
def judge(request: pytest.FixtureRequest) -> Judge:
    return Judge(*request.param)


def test_never_allowed(judge: Judge) -> None:
    refused = (
        "execve execveat ptrace socket connect bind sendmsg mount unshare setns bpf process_vm_writev"
        " memfd_create tkill truncate fchmodat fchownat utimensat setsid setresuid capset seccomp keyctl"
        " fallocate shmget"
    )
    assert {name: judge(name) for name in refused.split()} == dict.fromkeys(refused.split(), EPERM)
    recent = ("io_uring_setup", "clone3", "openat2", "pidfd_open")
    assert {name: judge(name) for name in recent} == dict.fromkeys(recent, ENOSYS)
    assert judge("read") == ALLOW


def test_threads_but_no_processes(judge: Judge) -> None:
    thread = 0x3D0F00
    assert judge("clone", thread) == ALLOW
    assert judge("clone", 17) == EPERM
    assert judge("clone", thread & ~0x10000) == EPERM
    assert judge("clone", 0x10000 << 32) == EPERM


def test_signals_and_limits_of_itself_only(judge: Judge) -> None:
    for name in ("kill", "tgkill"):
        assert judge(name, PID, 9) == ALLOW
        for other in (PID + 1, 1, 0, 0xFFFFFFFF, 0xFFFFFFFF - PID + 1):
            assert judge(name, other, 9) == EPERM
    assert (judge("prlimit64", 0), judge("prlimit64", PID), judge("prlimit64", 1)) == (
        ALLOW,
        ALLOW,
        EPERM,
    )


def test_arguments(judge: Judge) -> None:
    assert judge("fcntl", 1, 3) == ALLOW
    assert (judge("fcntl", 1, 8, 1), judge("fcntl", 1, 10, 9)) == (EPERM, EPERM)
    assert (judge("ioctl", 1, 0x5401), judge("ioctl", 1, 0x5412)) == (ALLOW, ENOTTY)
    assert (judge("prctl", 15), judge("prctl", 1), judge("prctl", 22, 2)) == (ALLOW, EPERM, EPERM)
    assert (judge("socketpair", 1, 1), judge("socketpair", 2, 1)) == (ALLOW, EPERM)
    assert judge("sendto", 5, 1, 1, 0, 0, 0) == ALLOW
    assert judge("sendto", 5, 1, 1, 0, 1, 16) == EPERM
    assert judge("sendto", 5, 1, 1, 0, 1 << 32, 16) == EPERM


@pytest.mark.parametrize("machine", BITS)
def test_opening_and_changing_files(machine: str) -> None:
    confined, bare = Judge(machine, confined=True), Judge(machine, confined=False)
    reading, writing, creating, emptying, nameless = 0, 1, 0o102, 0o1000, 0o20200002
    assert [confined("openat", 0, 0, f) for f in (reading, writing, creating, nameless)] == [
        ALLOW
    ] * 4
    assert confined("openat", 0, 0, emptying) == EACCES
    assert confined("openat", 0, 0, emptying | writing) == ALLOW
    assert bare("openat", 0, 0, reading | 0o2000000) == ALLOW
    for flags in (writing, 2, 3, creating, 0o100, emptying, nameless):
        assert bare("openat", 0, 0, flags) == EACCES
    for name in ("unlinkat", "renameat2", "mkdirat"):
        assert (confined(name), bare(name)) == (ALLOW, EPERM)


@pytest.mark.parametrize("machine", BITS)
def test_other_machines_calls_end_the_process(machine: str) -> None:
    program = assemble(machine, PID, confined=True)
    other = next(bits for name, bits in BITS.items() if name != machine)
    for arch in (other, 0x40000003, 0x40000028, 0):  # i386, arm
        assert verdict(program, NUMBERS["read"][list(BITS).index(machine)], arch) == KILL
    if machine == "x86_64":
        assert verdict(program, 0x40000000, BITS[machine]) == KILL
        assert verdict(program, 0x40000000 | 59, BITS[machine]) == KILL
    assert len(program) // 8 <= 4096


@pytest.mark.parametrize("machine", BITS)
def test_every_number_is_named_once(machine: str) -> None:
    column = MACHINES[machine].numbers(ALWAYS + TREE_CHANGES + JUDGED)
    assert len(set(column.values())) == len(column) == len(set(column))


def test_numbers_are_the_kernels() -> None:
    headers = {"x86_64": "asm/unistd_64.h", "aarch64": "asm-generic/unistd.h"}
    roots = [Path("/usr/include"), Path("/usr/include/x86_64-linux-gnu")]
    compared = 0
    for machine, header in headers.items():
        for path in (root / header for root in roots):
            if not path.exists():
                continue
            words = [
                line.split() for line in path.read_text().splitlines() if "#define __NR" in line
            ]
            known = {
                w[1].split("_NR_")[-1].removeprefix("NR3264_"): w[2] for w in words if len(w) > 2
            }
            known |= {w[1].removeprefix("__NR3264_"): w[2] for w in words if "NR3264" in w[1]}
            # the generic header names these by their 32-bit ancestors
            known |= {"newfstatat": known.get("fstatat", known.get("newfstatat", ""))}
            for name, number in MACHINES[machine].numbers(ALWAYS + TREE_CHANGES + JUDGED).items():
                assert known[name] == str(number), (machine, name)
                compared += 1
    if not compared:
        pytest.skip("no kernel headers on this machine")
