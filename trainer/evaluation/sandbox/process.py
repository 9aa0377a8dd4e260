"""One program in one child process: started, watched, ended and cleared away."""

from __future__ import annotations

import contextlib
import marshal
import os
import secrets
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data_modules.faults import ConfigFault, Fault
from trainer.evaluation.sandbox.folder import holds_more, remove
from trainer.evaluation.sandbox.limits import Limits, Outcome, Reason
from trainer.evaluation.sandbox.machine import Machinery
from trainer.evaluation.sandbox.tests_code import Tests

BOOTSTRAP = Path(__file__).with_name("bootstrap.py")
#: No site packages, no user packages, nothing from the folder, nothing compiled to disk, UTF-8.
INTERPRETER_OPTIONS = ("-S", "-s", "-P", "-B", "-X", "utf8")
#: Threads of one program.
THREADS = 64
#: Starting an interpreter on a machine that is short of cores or far from its disk.
START_SECONDS = 120.0
FOLDER_PERIOD = 0.1
LOOK_PERIOD = 0.05
#: What the child may tell the harness; a nonce and the numbers of its assertions fit.
MESSAGE_BYTES = 1 << 20
REASONS: dict[str, Reason] = {
    "error": "error",
    "assertion": "assertion",
    "exit": "exit",
    "memory": "memory",
    "output": "output",
    "forbidden": "forbidden",
}


def environment(private: str) -> dict[str, str]:
    """All variables of a program; none is inherited but where shared libraries are."""
    one = ("OMP", "OPENBLAS", "MKL", "NUMEXPR")
    found = {
        "HOME": private,
        "TMPDIR": private,
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "MALLOC_ARENA_MAX": "1",
        **{f"{library}_NUM_THREADS": "1" for library in one},
    }
    if "LD_LIBRARY_PATH" in os.environ:
        found["LD_LIBRARY_PATH"] = os.environ["LD_LIBRARY_PATH"]
    return found


def execute(program: str, tests: Tests, limits: Limits, machinery: Machinery) -> Outcome:
    """Runs a program and its tests.

    Raises:
        ConfigFault: the child could not be confined; the program has not run.
    """
    with contextlib.ExitStack() as ending:
        private = Path(tempfile.mkdtemp(prefix="polyphase-program-"))
        ending.callback(remove, private)
        return _Child(program, tests, limits, machinery, private, ending).outcome()


class _Child:
    """The parent's side of one run."""

    def __init__(
        self,
        program: str,
        tests: Tests,
        limits: Limits,
        machinery: Machinery,
        private: Path,
        ending: contextlib.ExitStack,
    ) -> None:
        self.tests, self.limits, self.private = tests, limits, private
        inbox, self.orders = os.pipe()
        self.news, outbox = os.pipe()
        for own in (self.orders, self.news):
            ending.callback(os.close, own)
            os.set_blocking(own, False)
        try:
            self.process = subprocess.Popen(
                [sys.executable, *INTERPRETER_OPTIONS, str(BOOTSTRAP), str(inbox), str(outbox)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=private,
                env=environment(str(private)),
                pass_fds=(inbox, outbox),
                start_new_session=True,
            )
        finally:
            os.close(inbox)
            os.close(outbox)
        ending.callback(self.end)
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        for stream in (self.process.stdout, self.process.stderr):
            ending.callback(stream.close)
            os.set_blocking(stream.fileno(), False)
        out, err = self.process.stdout.fileno(), self.process.stderr.fileno()
        self.streams = {out: bytearray(), err: bytearray(), self.news: bytearray()}
        self.out, self.err = out, err
        self.nonce = secrets.token_hex(16)
        self.status: int | None = None
        self.cpu_seconds = 0.0
        self.confined = self.asked = False
        self.deadline = time.monotonic() + START_SECONDS
        self.next_look = 0.0
        self.selector = ending.enter_context(selectors.DefaultSelector())
        for stream_number in self.streams:
            self.selector.register(stream_number, selectors.EVENT_READ)
        self.outgoing = bytearray()
        self.send(
            {
                "program": program,
                "name": "program" if tests.count else "__main__",
                "parent": os.getpid(),
                "private": str(private),
                "threads": THREADS,
                "cpu_seconds": limits.cpu_seconds,
                "file_bytes": limits.file_bytes,
                "memory_bytes": limits.memory_bytes,
                "tasks": machinery.tasks,
                "landlock": machinery.landlock,
                "filter": machinery.filter(self.process.pid),
            }
        )

    def outcome(self) -> Outcome:
        """Waits for the end and says what it was."""
        cut: Reason = ""
        while not cut and self.status is None:
            self.step()
            cut = self.excess()
        self.end()
        while not cut and self.receive():  # what was still in the pipes
            cut = self.excess()
        lines = bytes(self.streams[self.news]).decode("utf-8", "replace").split("\n")
        if lines[0].startswith("fault"):
            raise unconfined(lines[0].removeprefix("fault "))
        if lines[0] != "confined":
            text = self.text(self.err)[-500:] or f"exit status {self.status}"
            raise unconfined(f"the interpreter did not start: {text}")
        passed = f"passed {self.nonce} {list(range(self.tests.count))}"
        reason = cut or ("" if passed in lines[1:] else self.reason(lines[1:]))
        return Outcome(not reason, self.text(self.out), self.text(self.err), reason)

    def step(self) -> None:
        """Moves what can be moved between the two, and sees whether the child has ended."""
        if self.outgoing:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                del self.outgoing[: os.write(self.orders, self.outgoing[: 1 << 16])]
        pause = LOOK_PERIOD if not self.outgoing else 0.001
        if self.selector.get_map():
            self.receive(pause)
        else:
            time.sleep(0.001)
        if not self.confined and self.streams[self.news].startswith(b"confined\n"):
            self.confined = True
            self.deadline = time.monotonic() + self.limits.seconds
        if not self.asked and b"\nready\n" in self.streams[self.news]:
            self.asked = True
            self.send((self.nonce, self.tests.mark, self.tests.code))
        self.look()

    def send(self, value: dict[str, str | int | bytes] | tuple[str, str, bytes]) -> None:
        """Queues a value for the child."""
        content = marshal.dumps(value)
        self.outgoing += len(content).to_bytes(8, "little") + content

    def receive(self, pause: float = 0.0) -> bool:
        """Reads what is there now, a piece of each stream; whether there was anything."""
        found = False
        for key, _ in self.selector.select(pause):
            piece = b""
            with contextlib.suppress(BlockingIOError):
                piece = os.read(key.fd, 1 << 16)
            if piece:
                found = True
                self.streams[key.fd] += piece
            else:
                self.selector.unregister(key.fd)
        return found

    def excess(self) -> Reason:
        """Which bound of the harness's own was passed."""
        if any(
            len(self.streams[stream]) > self.limits.output_bytes for stream in (self.out, self.err)
        ):
            return "output"
        if len(self.streams[self.news]) > MESSAGE_BYTES:
            return "forbidden"
        now = time.monotonic()
        if self.status is None and now > self.deadline:
            return "timeout"
        if self.confined and now > self.next_look:
            self.next_look = now + FOLDER_PERIOD
            if holds_more(self.private, self.limits.file_bytes):
                return "output"
        return ""

    def look(self, options: int = os.WNOHANG) -> None:
        """Takes note of the child's end."""
        if self.status is not None:
            return
        try:
            pid, status, usage = os.wait4(self.process.pid, options)
        except ChildProcessError:  # someone else has waited for all children
            self.status = self.process.returncode = 1
            return
        if pid:
            self.status = self.process.returncode = os.waitstatus_to_exitcode(status)
            self.cpu_seconds = usage.ru_utime + usage.ru_stime

    def end(self) -> None:
        """Kills the child unless it has ended; it cannot have children of its own."""
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.look(0)

    def reason(self, lines: list[str]) -> Reason:
        """Why a run that the harness did not cut failed."""
        for line in lines:
            if line.startswith("reason "):
                return REASONS.get(line.removeprefix("reason "), "error")
        assert self.status is not None
        spent = self.cpu_seconds > self.limits.cpu_seconds
        if self.status == -signal.SIGXCPU or (self.status == -signal.SIGKILL and spent):
            return "timeout"
        if self.status == -signal.SIGSYS:
            return "forbidden"
        return "killed" if self.status < 0 else "exit"

    def text(self, stream: int) -> str:
        """What was printed, cut at the limit."""
        return bytes(self.streams[stream][: self.limits.output_bytes]).decode("utf-8", "replace")


def unconfined(seen: str) -> ConfigFault:
    """The fault of a machine on which a program cannot be confined."""
    return ConfigFault(
        Fault(
            "execution of programs",
            seen,
            "programs run only where they can be limited",
            "Use Linux 5.13 or later on x86_64 or aarch64, in a container allow seccomp and prctl, or "
            "choose metrics that execute no programs.",
        )
    )
