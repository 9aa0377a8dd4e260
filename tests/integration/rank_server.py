"""The process that :mod:`rank_processes` forks ranks from: everything slow to import is in it already.

Started as a script. It reads one JSON request a line from standard input and writes one JSON event a
line to standard output; it ends, and ends all ranks, when its input does. It has one thread, so that a fork
is safe; what differs from ranks that a launcher starts: all share one hash seed.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import selectors
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_ENVIRONMENT = {
    "JE_ARROW_MALLOC_CONF": "background_thread:false",  # Arrow's allocator would start a thread
    "OMP_NUM_THREADS": "1",
    "DS_ACCELERATOR": "cpu",
}
#: Imported once here, instead of by every rank; several are imported late in a run.
_SLOW = (
    "torch._inductor.compile_fx",
    "torch.distributed.checkpoint",
    "deepspeed",
    "transformers.models.llama.modeling_llama",
    "transformers.models.qwen2.modeling_qwen2",
    "transformers.models.qwen3.modeling_qwen3",
    "peft",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "launch.train",
    "launching",
    "trainer.train",
)
_PR_SET_CHILD_SUBREAPER = 36


def named(name: str) -> Any:
    """What ``module:attribute`` names."""
    module, _, path = name.partition(":")
    return functools.reduce(getattr, path.split("."), importlib.import_module(module))


def session_members(session: int) -> list[int]:
    """Processes of a session, but for its leader and zombies."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[3]) == session and fields[0] not in "ZX":
                found.append(int(stat.parent.name))
    return [pid for pid in found if pid != session]


def composed_once(overrides: list[str]) -> Any:
    """The configuration, made once for all ranks; None if it is faulty, so that each rank says so."""
    try:
        return named("launching:composed")(overrides)
    except Exception:
        return None


@dataclass
class Job:
    """What a forked child does: this rank's part of a run, as its command line would."""

    environment: dict[str, str]
    output: str
    overrides: list[str]
    command: str
    acts: list[tuple[str, dict[str, Any]]]
    config: Any = None  # composed before the fork; None leaves it to the command line's Hydra

    def enter(self) -> None:
        """Take this rank's variables and its output file."""
        os.environ.update(self.environment)
        file = os.open(self.output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((nothing, 0), (file, 1), (file, 2)):
            os.dup2(source, target)
        os.close(file)
        os.close(nothing)

    def run(self) -> None:
        """Set the acts up, then start the command as its own file would."""
        for act, arguments in self.acts:
            named(act)(**arguments)
        composing, command = importlib.import_module("launch.composing"), named(self.command)
        if self.config is None:
            sys.argv = [f"{self.command.partition(':')[0].replace('.', '/')}.py", *self.overrides]
            composing.start(command)
            return
        try:
            composing.report_faults(lambda: command(self.config))
        finally:
            named("trainer.distributed:shutdown")()


@dataclass
class Launch:
    """Ranks of one request that are running, and the launcher's habits towards them."""

    number: int
    started: float
    pids: dict[int, int] = field(default_factory=dict)  # pid -> rank
    grace: float | None = None  # seconds from SIGTERM to SIGKILL of the rest; None leaves them
    ends_others: bool = False  # a rank has ended badly
    kill_at: float | None = None

    def ended(self, pid: int, code: int) -> dict[str, Any]:
        """Take note of a rank's end; the first bad end brings the others down if that is asked for."""
        rank = self.pids.pop(pid)
        now = time.monotonic()
        if code and self.grace is not None and not self.ends_others:
            self.ends_others = True
            self.send(signal.SIGTERM)
            self.kill_at = now + self.grace
        seconds = now - self.started
        return {"launch": self.number, "rank": rank, "code": code, "seconds": seconds}

    def send(self, number: signal.Signals) -> None:
        """Signal every rank that is left; none of them is reaped yet, so all pids are ours."""
        for pid in self.pids:
            os.kill(pid, number)


class Server:
    """Forks ranks on request and tells how they end."""

    def __init__(self, requests: int, events: int) -> None:
        self.requests, self.events = requests, events
        self.launches: list[Launch] = []
        self.unread = b""
        self.selector = selectors.DefaultSelector()
        self.woken, wake = os.pipe()
        for end in (self.woken, wake):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        self.selector.register(requests, selectors.EVENT_READ)
        self.selector.register(self.woken, selectors.EVENT_READ)
        self.closed_in_child = (requests, events, self.woken, wake)

    def serve(self) -> Job | None:
        """Serve until the input ends, which gives None; in a forked child, what it has to do."""
        self.tell({"ready": True})
        while True:
            due = [one.kill_at for one in self.launches if one.kill_at not in (None, float("inf"))]
            wait = max(0.0, min(filter(None, due)) - time.monotonic()) if due else None
            ready = {key.fd for key, _ in self.selector.select(wait)}
            if self.woken in ready:
                os.read(self.woken, 4096)
            self.reap()
            for launch in self.launches:
                if launch.kill_at is not None and time.monotonic() >= launch.kill_at:
                    launch.send(signal.SIGKILL)
                    launch.kill_at = None
            self.launches = [one for one in self.launches if one.pids]
            if self.requests in ready:
                data = os.read(self.requests, 1 << 16)
                if not data:
                    self.end_all()
                    return None
                *lines, self.unread = (self.unread + data).split(b"\n")
                for line in lines:
                    job = self.start(json.loads(line))
                    if job is not None:
                        return job

    def start(self, request: dict[str, Any]) -> Job | None:
        """Fork the ranks of a request; None here, a rank's job in its process."""
        jobs = [Job(**job) for job in request["jobs"]]
        config = None if request["hydra"] else composed_once(jobs[0].overrides)
        launch = Launch(request["launch"], time.monotonic(), grace=request["grace"])
        assert threading.active_count() == len(os.listdir("/proc/self/task")) == 1  # noqa: PTH208
        for rank, job in enumerate(jobs):
            pid = os.fork()
            if pid == 0:
                job.config = config
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                self.selector.close()
                for end in self.closed_in_child:
                    os.close(end)
                job.enter()
                return job
            launch.pids[pid] = rank
        self.launches.append(launch)
        pids = {rank: pid for pid, rank in launch.pids.items()}
        self.tell({"launch": launch.number, "pids": pids})
        return None

    def reap(self) -> None:
        """Tell the end of every child that ended; orphans that came to us are dropped."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for launch in self.launches:
                if pid in launch.pids:
                    self.tell(launch.ended(pid, os.waitstatus_to_exitcode(status)))

    def end_all(self) -> None:
        """Kill every process of this session but this one, and reap them."""
        while left := session_members(os.getpid()):
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                while True:
                    os.waitpid(-1, 0)

    def tell(self, event: dict[str, Any]) -> None:
        """Write one event."""
        os.write(self.events, json.dumps(event).encode() + b"\n")


def main() -> Callable[[], None] | None:
    """Import, then serve; gives a forked child its work, which its interpreter ends normally after."""
    events = os.dup(1)
    os.dup2(2, 1)  # whatever prints while importing must not look like an event
    # a rank's own children come to this process when the rank dies, and not to init
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.environ.update(_ENVIRONMENT)
    for name in _SLOW:
        importlib.import_module(name)
    importlib.import_module("torch").set_num_threads(1)
    gc.freeze()  # ranks would copy every page that a collection touches
    job = Server(os.dup(0), events).serve()
    return None if job is None else job.run


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    work = main()
    if work is not None:
        work()
