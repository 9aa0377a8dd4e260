"""Rank processes for tests of faults: started in a second, killed, stopped and waited for one by one.

Importing PyTorch, DeepSpeed and transformers takes ten seconds in every process. Here one server process
imports them once, composes the configuration and forks the ranks. A rank runs the command and ends with
the exit code of the command line; with ``hydra=True`` it starts at the command line itself. Before that
it calls *acts* (see :mod:`acts`), which may patch the project so that a rank dies, hangs or computes
rubbish at a place and time of the test's choice.

    with RankProcesses(tmp_path) as server:
        outcome = server.run(overrides, ranks=2, act=("acts:kill_at", {"target": ..., "rank": 1}))
        assert outcome.codes == {0: 4, 1: -9}

The server may be shared by all tests of a module. Nothing that it started outlives the ``with``.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rank_server import session_members

from tests.shared_port import free_port

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
TRAIN = "launch.train:command"

#: ``module:function`` and its arguments as JSON; called in every rank before the command.
Act = tuple[str, dict[str, Any]]

#: The page and its pictures take seconds, and memory that training does not.
NO_REPORT: Act = ("acts:skip", {"target": "trainer.run:close_run"})


@dataclass(frozen=True)
class Outcome:
    """How the ranks of a launch ended.

    Attributes:
        codes: exit code of each rank; minus the signal's number where one killed it.
        outputs: what each rank wrote to standard output and error.
        seconds: from the start to each rank's end.
    """

    codes: dict[int, int]
    outputs: dict[int, str]
    seconds: dict[int, float]

    def __str__(self) -> str:
        tails = (f"--- rank {rank}\n{text[-3000:]}" for rank, text in self.outputs.items())
        return "\n".join([f"exit codes {self.codes}", *tails])


class Launched:
    """Ranks that were started together."""

    def __init__(self, server: RankProcesses, number: int, outputs: list[Path]) -> None:
        self._server, self._number, self._outputs = server, number, outputs
        self.pids: dict[int, int] = {}
        self.codes: dict[int, int] = {}
        self.seconds: dict[int, float] = {}

    def kill(self, rank: int, number: int = signal.SIGKILL) -> None:
        """Send a signal to one rank; nothing happens where it has ended."""
        self._server.pump(0)
        if rank not in self.codes:
            os.kill(self.pids[rank], number)

    def kill_all(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to every rank that is left, as a job's scheduler does."""
        for rank in self.pids:
            self.kill(rank, number)

    def output(self, rank: int) -> str:
        """What a rank wrote so far."""
        path = self._outputs[rank]
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    @property
    def outcome(self) -> Outcome:
        """As far as it is known now."""
        outputs = {rank: self.output(rank) for rank in self.pids}
        return Outcome(dict(self.codes), outputs, dict(self.seconds))

    def wait(self, timeout: float, ranks: Iterable[int] | None = None) -> Outcome:
        """Wait for the end of all ranks, or of some.

        Raises:
            TimeoutError: they are still running, and are left so; it shows what all ranks wrote.
        """
        wanted = set(self.pids if ranks is None else ranks)
        self._server.pump_until(lambda: wanted <= set(self.codes), timeout, self)
        return self.outcome

    def wait_for_text(self, text: str, rank: int, timeout: float) -> None:
        """Wait until a rank has written a text.

        Raises:
            TimeoutError: it has not, or it ended without.
        """

        def written() -> bool:
            ended = rank in self.codes  # before reading: what it wrote last must count
            found = text in self.output(rank)
            if ended and not found:
                raise TimeoutError(f"rank {rank} ended without {text!r}\n{self.outcome}")
            return found

        self._server.pump_until(written, timeout, self)

    def take(self, event: dict[str, Any]) -> None:
        """Take note of what the server tells."""
        if "pids" in event:
            self.pids = {int(rank): pid for rank, pid in event["pids"].items()}
        else:
            self.codes[event["rank"]] = event["code"]
            self.seconds[event["rank"]] = event["seconds"]


class RankProcesses:
    """The server that ranks are forked from; a context manager."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._launches: list[Launched] = []
        self._unread = b""
        self._ready = False

    def __enter__(self) -> RankProcesses:
        self._scratch.mkdir(parents=True, exist_ok=True)
        paths = [str(REPOSITORY), str(HERE), os.environ.get("PYTHONPATH", "")]
        self._log = self._scratch / "server.txt"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-u", str(HERE / "rank_server.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._events = self._process.stdin, self._process.stdout
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(30)  # it ends its ranks, and theirs
        left = session_members(self._process.pid)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self._process.kill()
        self._process.wait()
        self._events.close()
        assert not left, "the server has left processes"

    def start(
        self,
        overrides: list[str],
        *,
        ranks: int = 2,
        act: Act | list[Act] | None = None,
        command: str = TRAIN,
        ranks_per_host: int | None = None,
        launcher_like: bool = False,
        grace: float = 5.0,
        environment: dict[str, str] | None = None,
        hydra: bool = False,
    ) -> Launched:
        """Start ranks and return at once.

        Args:
            overrides: what a user would write behind the command.
            act: called in every rank first, one or several; see :mod:`acts`.
            command: ``module:function`` of a file in ``launch/``.
            ranks_per_host: as if ranks lay on several hosts; only their local numbers know.
            launcher_like: the first rank that ends badly brings the others down: SIGTERM, and SIGKILL
                after ``grace`` seconds. DeepSpeed's launcher looks once a second and waits 30.
            environment: further variables of every rank.
            hydra: every rank composes its configuration itself, which takes seconds.
        """
        number = len(self._launches)
        folder = self._scratch / f"launch_{number:03d}"
        folder.mkdir()
        outputs = [folder / f"rank_{rank}.txt" for rank in range(ranks)]
        per_host = ranks_per_host or ranks
        common = {
            "WORLD_SIZE": str(ranks),
            "LOCAL_WORLD_SIZE": str(per_host),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(free_port()),
            "GLOO_SOCKET_IFNAME": "lo",
            **(environment or {}),
        }
        jobs = [
            {
                "environment": {**common, "RANK": str(rank), "LOCAL_RANK": str(rank % per_host)},
                "output": str(outputs[rank]),
                "overrides": overrides,
                "command": command,
                "acts": [act] if isinstance(act, tuple) else act or [],
            }
            for rank in range(ranks)
        ]
        launched = Launched(self, number, outputs)
        self._launches.append(launched)
        self.pump_until(lambda: self._ready, 300, None)  # a busy machine is no failure
        request = {
            "launch": number,
            "jobs": jobs,
            "grace": grace if launcher_like else None,
            "hydra": hydra,
        }
        self._requests.write(json.dumps(request).encode() + b"\n")
        self._requests.flush()
        self.pump_until(lambda: bool(launched.pids), 60, None)
        return launched

    def run(
        self,
        overrides: list[str],
        *,
        ranks: int = 2,
        act: Act | list[Act] | None = None,
        timeout: float = 120.0,
        **more: Any,
    ) -> Outcome:
        """Start ranks and wait for the end of all; see :meth:`start`.

        Raises:
            TimeoutError: some were running after ``timeout`` seconds; none is now.
        """
        launched = self.start(overrides, ranks=ranks, act=act, **more)
        try:
            return launched.wait(timeout)
        finally:
            launched.kill_all()

    def pump_until(self, condition: Any, timeout: float, shown: Launched | None) -> None:
        """Take the server's events until a condition holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            if time.monotonic() >= deadline:
                raise TimeoutError(f"after {timeout:g} s: {shown.outcome if shown else 'server'}")
            self.pump(0.05)

    def pump(self, timeout: float) -> None:
        """Take the events that are there, or come within a time."""
        while select.select([self._events], [], [], timeout)[0]:
            data = os.read(self._events.fileno(), 1 << 16)
            assert data, "the server ended:\n" + self._log.read_text(encoding="utf-8")[-3000:]
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                event = json.loads(line)
                if "ready" in event:
                    self._ready = True
                else:
                    self._launches[event["launch"]].take(event)
            timeout = 0
