"""Runs in the child process, as a script: gives up every right, then runs the program and its tests.

Standard library only: the package cannot be imported here. What the parent sends is a length of
eight bytes and a marshalled value; what it gets are lines: ``confined``, ``ready``, then ``passed``
with the nonce, or ``reason``; ``fault`` when the process could not be confined.
"""

from __future__ import annotations

import builtins
import ctypes
import errno
import marshal
import os
import resource
import signal
import sys
from types import ModuleType
from typing import Any, NoReturn

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER = 2
LINUX_CAPABILITY_VERSION_3 = 0x20080522
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_RULE_PATH_BENEATH = 1
# linux/landlock.h: rights by the version that knows them first
WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 1, 1 << 2, 1 << 3, 1 << 14
REMOVE, MAKE_DIR, MAKE_REG, MAKE_SYM, REFER = 3 << 4, 1 << 7, 1 << 8, 1 << 12, 1 << 13
RIGHTS_OF_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
SCOPES = 3
#: Real user ids that no one has: RLIMIT_NPROC spares root and counts by real user.
LONELY_UID = 0x60000000
NOBODY = 65534

LIBC = ctypes.CDLL(None, use_errno=True)
# a program may put others in their place
read, write, leave, load = os.read, os.write, os._exit, marshal.loads


def call(name: str, *arguments: Any) -> int:
    """The result of a libc function, or of ``syscall`` for a number; OSError when it failed."""
    function = getattr(LIBC, name.split()[0])
    # variadic: every register must be filled
    wide = [ctypes.c_long(item) if isinstance(item, int) else item for item in arguments]
    result = int(function(*wide))
    if result < 0:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
    return result


def receive(inbox: int) -> Any:
    """The next value from the parent; leaves when there is none."""

    def exactly(count: int) -> bytes:
        parts = bytearray()
        while len(parts) < count:
            part = read(inbox, count - len(parts))
            if not part:
                leave(1)
            parts += part
        return bytes(parts)

    return load(exactly(int.from_bytes(exactly(8), "little")))


def bound(kind: int, value: int) -> None:
    """Sets a soft and hard limit; a lower one that was there stays."""
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (value, value))


def readable() -> list[str]:
    """What a program may read: this interpreter's library, shared libraries, time zones."""
    libraries = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"]
    system = ["/etc/ld.so.cache", "/etc/localtime", "/usr/share/zoneinfo"]
    devices = ["/dev/zero", "/dev/urandom", "/dev/random"]
    own = [*sys.path, os.path.dirname(os.__file__), f"{sys.base_prefix}/lib"]  # noqa: PTH120
    own += filter(None, os.environ.get("LD_LIBRARY_PATH", "").split(":"))
    return [*own, *libraries, *system, *devices]


def landlock(version: int, private: str) -> None:
    """Confines the process's files: reading what ``readable`` says, writing only the private folder."""
    handled = (1 << RIGHTS_OF_VERSION.get(version, 16)) - 1
    scoped = SCOPES if version >= 6 else 0
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    fields = handled.to_bytes(8, "little") + bytes(8) + scoped.to_bytes(8, "little")
    ruleset = call("syscall landlock_create_ruleset", LANDLOCK_CREATE_RULESET, fields, size, 0)

    def permit(path: str, rights: int) -> None:
        try:
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return
        if not os.path.isdir(path):  # noqa: PTH112
            rights &= READ_FILE | WRITE_FILE | TRUNCATE
        rule = (rights & handled).to_bytes(8, "little") + place.to_bytes(4, "little")
        kind = LANDLOCK_RULE_PATH_BENEATH
        call(f"syscall landlock_add_rule({path})", LANDLOCK_ADD_RULE, ruleset, kind, rule, 0)
        os.close(place)

    for path in readable():
        permit(path, READ_FILE | READ_DIR)
    permit("/dev/null", READ_FILE | WRITE_FILE)
    everything = READ_FILE | READ_DIR | WRITE_FILE | TRUNCATE | REMOVE | MAKE_DIR
    permit(private, everything | MAKE_REG | MAKE_SYM | REFER)
    call("syscall landlock_restrict_self", LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def confine(order: dict[str, Any]) -> None:
    """Gives up every right that the program does not need; OSError when one cannot be given up."""
    call("prctl PR_SET_NO_NEW_PRIVS", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() == 0:
        # in a user namespace only some ids exist
        for uid in (LONELY_UID + os.getpid(), NOBODY):
            try:
                os.setresuid(uid, 0, 0)
                break
            except OSError:
                continue
    # RLIMIT_NPROC counts all tasks of the real user
    others = order["tasks"] if os.getuid() == os.geteuid() else 0
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_MEMLOCK, 0),
        (resource.RLIMIT_MSGQUEUE, 0),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_NPROC, order["threads"] + others),
        (resource.RLIMIT_STACK, 8 << 20),
        (resource.RLIMIT_FSIZE, order["file_bytes"]),
        (resource.RLIMIT_AS, order["memory_bytes"]),
    ):
        bound(kind, value)
    # first SIGXCPU, which tells the harness what it was; SIGKILL for those that catch it
    patience = order["cpu_seconds"]
    bound(resource.RLIMIT_CPU, patience + 1)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(patience, hard), hard))
    header = LINUX_CAPABILITY_VERSION_3.to_bytes(4, "little") + bytes(4)
    call("capset", header, bytes(24))
    call("prctl PR_SET_PDEATHSIG", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != order["parent"]:
        leave(1)
    if order["landlock"]:
        landlock(order["landlock"], order["private"])

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    rules: bytes = order["filter"]
    program = Program(len(rules) // 8, rules)
    reference = ctypes.byref(program)
    call("prctl PR_SET_SECCOMP", PR_SET_SECCOMP, SECCOMP_MODE_FILTER, reference, 0, 0)


def cause(error: BaseException, testing: bool) -> str:
    """The reason why a program failed that an exception ended."""
    if isinstance(error, SystemExit):
        return "exit"
    if testing and isinstance(error, AssertionError):
        return "assertion"
    link: BaseException | None = error
    for _ in range(20):  # a chain may be a ring
        if isinstance(link, MemoryError):
            return "memory"
        if isinstance(link, OSError):
            if link.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
                return "forbidden"
            if link.errno == errno.ENOMEM:
                return "memory"
            if link.errno == errno.EFBIG:
                return "output"
        if type(link).__name__ == "gaierror":
            return "forbidden"
        link = link and (link.__cause__ or link.__context__)
    return "error"


def main(inbox: int, outbox: int) -> NoReturn:
    """Confines the process, runs the program, fetches the tests and runs them."""
    show, modules, output, errors = sys.excepthook, sys.modules, sys.stdout, sys.stderr
    order = receive(inbox)
    try:
        confine(order)
    except Exception as error:
        write(outbox, f"fault {error}\n".encode())
        leave(1)
    import _sitebuiltins

    builtins.exit = _sitebuiltins.Quitter("exit", "Ctrl-D")
    builtins.quit = _sitebuiltins.Quitter("quit", "Ctrl-D")
    known = dict(builtins.__dict__)
    sys.argv = ["program.py"]
    module = ModuleType(order["name"])
    names = module.__dict__
    names["__builtins__"] = builtins
    modules["__main__"] = modules[order["name"]] = module
    testing = False
    write(outbox, b"confined\n")
    try:
        exec(compile(order["program"], "<program>", "exec", dont_inherit=True), names)
        sys.settrace(None)
        sys.setprofile(None)
        builtins.__dict__.update(known)
        names["__builtins__"] = builtins
        # only now: a program that left early has not seen the nonce
        write(outbox, b"ready\n")
        nonce, mark, tests = receive(inbox)
        testing = True
        reached: set[int] = set()
        names[mark] = reached.add
        exec(load(tests), names)
        if "threading" in modules:
            modules["threading"]._shutdown()  # waits as Python does at its end
    except BaseException as error:
        try:
            builtins.__dict__.update(known)
            write(outbox, f"reason {cause(error, testing)}\n".encode())
            sys.stderr = errors
            own = error.__traceback__
            shown = error.with_traceback(own and own.tb_next)
            show(type(shown), shown, shown.__traceback__)
            flush(sys.stdout, output, errors)
        finally:
            leave(1)
    flush(sys.stdout, output, errors)
    write(outbox, f"passed {nonce} {sorted(reached)}\n".encode())
    leave(0)


def flush(*streams: Any) -> None:
    """Writes out what was printed, wherever the program may have put it."""
    for stream in streams:
        try:
            stream.flush()
        except BaseException:
            continue


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
