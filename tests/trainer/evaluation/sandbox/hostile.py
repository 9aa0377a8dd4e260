"""Programs that misbehave, each right at its end: only what holds them makes them fail.

``CANARY`` stands for a file outside, ``SECRET`` for a file with a secret, ``PORT`` for a listener's port
and ``SOCKET`` for a listening unix socket; the tests that follow each program hold where it reaches them.
"""

from __future__ import annotations

from dataclasses import dataclass

TESTS = "assert answer == 1\nassert answer + 1 == 2"


@dataclass(frozen=True)
class Hostile:
    """A program and the reasons that its failure may have."""

    name: str
    program: str
    reasons: tuple[str, ...]
    tests: str = TESTS

    @property
    def waits(self) -> bool:
        """It uses no CPU time: only the wall clock can end it."""
        return self.name in ("endless sleep", "stops itself", "background thread")


def hostile(name: str, reasons: str, program: str, tests: str = TESTS) -> Hostile:
    return Hostile(name, f"{program}\nanswer = 1\n", tuple(reasons.split()), tests)


TIME = [
    hostile("endless loop", "timeout", "while True: pass"),
    hostile("endless sleep", "timeout", "import time\ntime.sleep(1e6)"),
    hostile(
        "endless loop in tests",
        "timeout",
        "def f():\n    while True: pass",
        "f()\nassert answer == 1",
    ),
    hostile(
        "threads that burn CPU",
        "timeout",
        "import threading\ndef burn():\n    while True: sum(range(1000))\n"
        "for _ in range(4): threading.Thread(target=burn).start()",
    ),
    hostile(
        "SIGTERM and SIGXCPU caught",
        "timeout",
        "import signal\nfor s in (signal.SIGTERM, signal.SIGXCPU, signal.SIGINT, signal.SIGHUP):\n"
        "    signal.signal(s, lambda *a: None)\nwhile True: pass",
    ),
    hostile(
        "SIGXCPU turned into an exit",
        "exit",
        "import signal, sys\nsignal.signal(signal.SIGXCPU, lambda *a: sys.exit(0))\nwhile True: pass",
    ),
    hostile("stops itself", "timeout", "import os, signal\nos.kill(os.getpid(), signal.SIGSTOP)"),
    hostile(
        "everything caught",
        "timeout",
        "import os\nwhile True:\n    try: os.fork()\n    except BaseException: pass",
    ),
]
PROCESSES = [
    hostile("fork bomb", "forbidden", "import os\nwhile True: os.fork()"),
    hostile("vfork of subprocess", "forbidden", "import subprocess\nsubprocess.run(['true'])"),
    hostile("os.system", "error", "import os\nif os.system('true') != 0: raise RuntimeError"),
    hostile("os.popen", "forbidden", "import os\nos.popen('true').read()"),
    hostile("posix_spawn", "forbidden", "import os\nos.posix_spawn('/bin/true', ['true'], {})"),
    hostile("execve", "forbidden", "import os\nos.execv('/bin/true', ['true'])"),
    hostile("pty", "forbidden error", "import pty\npty.fork()"),
    hostile(
        "multiprocessing",
        "forbidden",
        "import multiprocessing\nmultiprocessing.Process(target=print).start()",
    ),
    hostile(
        "process pool",
        "forbidden",
        "from concurrent.futures import ProcessPoolExecutor\nProcessPoolExecutor().submit(print)",
    ),
    hostile(
        "fork by ctypes",
        "error",
        "import ctypes\nif ctypes.CDLL(None).fork() < 0: raise RuntimeError",
    ),
    hostile(
        "clone by number",
        "error",
        "import ctypes, platform\nclone = 56 if platform.machine() == 'x86_64' else 220\n"
        "if ctypes.CDLL(None).syscall(clone, 17, 0, 0, 0, 0) < 0: raise RuntimeError",
    ),
    hostile(
        "clone3 and io_uring",
        "error",
        "import ctypes\nlibc = ctypes.CDLL(None)\n"
        "if max(libc.syscall(435, 0, 0), libc.syscall(425, 1, 0)) < 0: raise RuntimeError",
    ),
    hostile(
        "thread bomb",
        "error timeout memory",
        "import threading, time\nwhile True:\n"
        "    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()",
    ),
    hostile("setsid", "forbidden", "import os\nos.setsid()"),
    hostile(
        "background thread",
        "timeout",
        "import threading, time\ndef wait():\n    while True: time.sleep(1)\n"
        "threading.Thread(target=wait).start()",
    ),
]
MEMORY = [
    hostile("memory hog", "memory", "held = []\nwhile True: held.append(bytearray(1 << 24))"),
    hostile("memory by mmap", "memory", "import mmap\nheld = mmap.mmap(-1, 1 << 40)"),
    hostile("memory of small objects", "memory", "held = []\nwhile True: held.append([0] * 999)"),
    hostile("memfd", "forbidden", "import os\nos.memfd_create('held')"),
    hostile(
        "shared memory",
        "forbidden",
        "from multiprocessing import shared_memory\n"
        "shared_memory.SharedMemory(create=True, size=1 << 20)",
    ),
    hostile(
        "limits raised",
        "error",
        "import resource\n"
        "resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))",
    ),
    hostile("open files", "error forbidden", "held = []\nwhile True: held.append(open('x', 'w'))"),
    hostile("deep recursion", "error", "def f(): f()\nf()"),
    hostile(
        "recursion into the C stack",
        "killed error memory",
        "import sys\nsys.setrecursionlimit(10 ** 9)\nclass A:\n    def __getattr__(self, n):\n"
        "        return getattr(self, n + 'a')\nA().b",
    ),
]
OUTPUT = [
    hostile("endless output", "output", "while True: print('x' * 1000)"),
    hostile("endless errors", "output", "import sys\nwhile True: sys.stderr.write('x' * 1000)"),
    hostile("one long line", "output", "print('x' * (1 << 26))"),
    hostile(
        "messages to the harness",
        "exit forbidden error output",
        "import os\nfor fd in range(3, 64):\n    try:\n        while True: os.write(fd, b'x' * 65536)\n"
        "    except OSError: pass\nos._exit(0)",
    ),
]
DISK = [
    hostile("big file", "output", "open('full', 'wb').write(bytes(1 << 25))"),
    hostile(
        "many files",
        "output",
        "import itertools\nfor i in itertools.count(): open(str(i), 'wb').write(bytes(1 << 19))",
    ),
    hostile(
        "nested folders",
        "output",
        "import os\nwhile True:\n    os.mkdir('a' * 200)\n    os.chdir('a' * 200)",
    ),
    hostile(
        "hidden folder",
        "output",
        "import os, time\nos.mkdir('h', 0o300)\nos.chdir('h')\n"
        "for i in range(2000): os.mkdir(f'd{i}', 0)\ntime.sleep(60)",
    ),
    hostile("fallocate", "forbidden", "import os\nos.posix_fallocate(os.open('f', 66), 0, 9)"),
]
FILES = [
    hostile("remove", "forbidden", "import os\nos.remove(CANARY)"),
    hostile(
        "remove a tree", "forbidden", "import os, shutil\nshutil.rmtree(os.path.dirname(CANARY))"
    ),
    hostile("overwrite", "forbidden", "open(CANARY, 'w')"),
    hostile("append", "forbidden", "open(CANARY, 'a').write('x')"),
    hostile("truncate", "forbidden", "import os\nos.truncate(CANARY, 0)"),
    hostile(
        "truncate by reading", "forbidden", "import os\nos.open(CANARY, os.O_RDONLY | os.O_TRUNC)"
    ),
    hostile("rename", "forbidden error", "import os\nos.rename(CANARY, CANARY + 'x')"),
    hostile("take home", "forbidden error", "import os\nos.rename(CANARY, 'mine')"),
    hostile("chmod", "forbidden", "import os\nos.chmod(CANARY, 0)"),
    hostile("utime", "forbidden", "import os\nos.utime(CANARY, (0, 0))"),
    hostile("new file beside", "forbidden", "open(CANARY + '.new', 'x')"),
    hostile("new folder beside", "forbidden", "import os\nos.mkdir(CANARY + '.new')"),
    hostile("hard link", "forbidden error", "import os\nos.link(CANARY, 'linked')"),
    hostile("symbolic link", "forbidden", "import os\nos.symlink(CANARY, 'l')\nopen('l', 'a')"),
    hostile("extended attribute", "forbidden", "import os\nos.setxattr(CANARY, 'user.x', b'x')"),
    hostile("device", "forbidden", "import os, stat\nos.mknod('n', 0o600 | stat.S_IFCHR, 0x103)"),
    hostile("own memory", "forbidden", "open('/proc/self/mem', 'r+b')"),
]
SECRETS = [
    hostile("secret file", "forbidden", "print(open(SECRET).read())"),
    hostile(
        "linked secret", "forbidden", "import os\nos.symlink(SECRET, 's')\nprint(open('s').read())"
    ),
    hostile(
        "listing",
        "forbidden",
        "import os\nprint(os.listdir('/'), os.listdir(os.path.dirname(SECRET)))",
    ),
    hostile("passwords", "forbidden", "print(open('/etc/passwd').read())"),
    hostile(
        "environment of the parent",
        "forbidden",
        "import os\nprint(open(f'/proc/{os.getppid()}/environ').read())",
    ),
]
NETWORK = [
    hostile(
        "tcp",
        "forbidden",
        "import socket\nsocket.create_connection(('127.0.0.1', PORT)).send(b'x')",
    ),
    hostile(
        "udp",
        "forbidden",
        "import socket\n"
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    ),
    hostile(
        "unix socket", "forbidden", "import socket\nsocket.socket(socket.AF_UNIX).connect(SOCKET)"
    ),
    hostile(
        "from a socket pair",
        "forbidden",
        "import socket\na, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
        "a.sendto(b'x', SOCKET)",
    ),
    hostile("dns", "forbidden", "import socket\nsocket.getaddrinfo('localhost.example', 80)"),
    hostile(
        "http",
        "forbidden",
        "from urllib.request import urlopen\nurlopen(f'http://127.0.0.1:{PORT}')",
    ),
    hostile("listening", "forbidden", "import socket\nsocket.create_server(('127.0.0.1', 0))"),
    hostile("netlink", "forbidden", "import socket\nsocket.socket(socket.AF_NETLINK, 3, 0)"),
]
SIGNALS = [
    hostile("parent killed", "forbidden", "import os\nos.kill(os.getppid(), 9)"),
    hostile("everyone killed", "forbidden", "import os\nos.kill(-1, 9)"),
    hostile("group killed", "forbidden", "import os\nos.killpg(0, 9)"),
    hostile(
        "signal by file owner",
        "forbidden",
        "import fcntl, os\nr, w = os.pipe()\nfcntl.fcntl(r, 8, os.getppid())",
    ),
    hostile(
        "limits of the parent",
        "forbidden",
        "import os, resource\nresource.prlimit(os.getppid(), resource.RLIMIT_CPU, (1, 1))",
    ),
    hostile(
        "priority of the parent",
        "forbidden",
        "import os\nos.setpriority(os.PRIO_PROCESS, os.getppid(), 19)",
    ),
    hostile("kills itself", "killed", "import os\nos.kill(os.getpid(), 9)"),
    hostile("aborts", "killed", "import os\nos.abort()"),
    hostile("segfault", "killed", "import ctypes\nctypes.string_at(0)"),
]
EXITS = [
    hostile("os._exit", "exit", "import os\nos._exit(0)"),
    hostile("sys.exit", "exit", "import sys\nsys.exit(0)"),
    hostile("SystemExit", "exit", "raise SystemExit"),
    hostile("exit()", "exit", "exit()"),
    hostile("SystemExit as a base", "error exit", "class Done(SystemExit): pass\nraise Done(0)"),
    hostile("KeyboardInterrupt", "error", "raise KeyboardInterrupt"),
    hostile("exit under test", "exit", "import os\ndef f(): os._exit(0)", "assert f() == 1"),
    hostile("sys.exit under test", "exit", "import sys\ndef f(): sys.exit(0)", "assert f() == 1"),
    hostile("all files closed", "exit error killed", "import os\nos.closerange(0, 64)"),
    hostile(
        "markers printed",
        "exit",
        "import os\nfor fd in range(64):\n    for line in ('ready', 'passed', 'passed 0 [0, 1]', 'ok'):\n"
        "        try: os.write(fd, line.encode() + b'\\n')\n        except OSError: pass\nos._exit(0)",
    ),
    hostile(
        "exit at exit",
        "assertion",
        "import atexit, os\natexit.register(os._exit, 0)",
        "assert answer == 2",
    ),
    hostile(
        "exit from a thread",
        "exit",
        "import os, threading, time\n"
        "threading.Thread(target=lambda: (time.sleep(0.3), os._exit(0))).start()",
    ),
    hostile(
        "alarm during the tests",
        "exit",
        "import signal, sys\nsignal.signal(signal.SIGALRM, lambda *a: sys.exit(0))\n"
        "signal.setitimer(signal.ITIMER_REAL, 0.2)\ndef f():\n    while True: pass",
        "f()\nassert answer == 1",
    ),
    hostile(
        "assertions replaced",
        "assertion",
        "import builtins\nbuiltins.AssertionError = ValueError\nAssertionError = SystemExit\n"
        "builtins.BaseException = ValueError\nbuiltins.exec = lambda *a: None",
        "assert answer == 2",
    ),
    hostile(
        "built-ins replaced",
        "assertion",
        "import builtins\nbuiltins.all = lambda *a: True\nbuiltins.abs = lambda *a: 0\ndel builtins.len",
        "assert len('ab') == 2\nassert all([answer == 2])",
    ),
    hostile(
        "modules of the harness replaced",
        "assertion",
        "import marshal, os, sys, builtins\nmarshal.loads = lambda *a: 'pass'\n"
        "os.write = lambda *a: 0\nsys.excepthook = print\nbuiltins.compile = None",
        "assert answer == 2",
    ),
    hostile(
        "tests traced and skipped",
        "assertion",
        "import sys\ndef skip(frame, event, arg):\n"
        "    if event == 'line' and frame.f_code.co_filename == '<tests>': frame.f_lineno = 3\n"
        "    return skip\nsys.settrace(skip)",
        "x = 1\nassert answer == 2\ny = 1",
    ),
    hostile(
        "function that skips its tests",
        "exit error",
        "import sys\ndef f():\n    def skip(frame, event, arg):\n"
        "        if frame.f_code.co_filename == '<tests>' and event == 'line': frame.f_lineno = 4\n"
        "        return skip\n    sys.settrace(skip)\n    sys._getframe(1).f_trace = skip\n    return 1",
        "f()\nassert answer == 2\nx = 1\ny = 1",
    ),
    hostile("no syntax", "error", "def f(:"),
    hostile("null bytes", "error", "x = '\0'"),
]
ALL = [*TIME, *PROCESSES, *MEMORY, *OUTPUT, *DISK, *FILES, *SECRETS, *NETWORK, *SIGNALS, *EXITS]
