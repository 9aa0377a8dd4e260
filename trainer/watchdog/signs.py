"""Signs of life: one small file per rank in the run directory, and what it takes to read a peer's."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class State(StrEnum):
    """How a rank is."""

    running = "running"
    done = "done"  # it left as all ranks do
    failed = "failed"  # it left with an error of its own
    lost = "lost"  # it left because another rank was lost


@dataclass(frozen=True)
class Identity:
    """A rank's process.

    Attributes:
        born: when it started, in the kernel's ticks; tells it from a later process with its pid.
        pid_space: ranks that have this in common see each other's pids; host names may be shared.
    """

    rank: int
    host: str
    pid: int
    born: str
    pid_space: str

    def __str__(self) -> str:
        return f"rank {self.rank} on host {self.host} (pid {self.pid})"

    @classmethod
    def of_this_process(cls, rank: int) -> Identity:
        """The identity of this process."""
        pid_space = ""
        with contextlib.suppress(OSError):
            boot = _BOOT_ID.read_text(encoding="utf-8").strip()
            pid_space = f"{boot} {Path('/proc/self/ns/pid').readlink()}"
        born = _born(os.getpid()) or ""
        return cls(rank, socket.gethostname(), os.getpid(), born, pid_space)

    def is_gone(self, reader: Identity) -> bool:
        """Whether its process does not exist any more, as far as the reader's process can see."""
        if not self.pid_space or self.pid_space != reader.pid_space:
            return False
        return _born(self.pid) != self.born


@dataclass(frozen=True)
class Sign:
    """What a rank tells of itself.

    Attributes:
        token: of the attempt; files of earlier attempts have another.
        beat: number of the sign.
        words: the error of a rank that failed; of one that left, whom it lost.
        culprits: ranks that a rank which left holds to be the cause.
        place, seconds, number, paused: see ``places``; seconds at this place.
        where: the main thread's line of code.
        waits: it waits for other ranks.
        time: wall time of its host, for a human reader only.
    """

    identity: Identity
    token: str
    beat: int
    state: State
    words: str
    culprits: list[int]
    place: str
    seconds: float
    number: int
    paused: bool
    where: str
    waits: bool
    time: str

    def whereabouts(self) -> str:
        """Its place in words."""
        held = f"'{self.place}' for {self.seconds:.0f} s"
        if self.where:
            held += f", main thread at {self.where}"
        return held + (", waiting for other ranks" if self.waits else "")


def file_of(folder: Path, rank: int) -> Path:
    """The file of a rank's sign of life."""
    return folder / f"rank_{rank}.json"


def write(folder: Path, sign: Sign) -> None:
    """Replace a rank's sign of life in one rename.

    Raises:
        OSError: it could not be written; where it was possible its time of change is new all the same.
    """
    path = file_of(folder, sign.identity.rank)
    scratch = path.with_suffix(".tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(asdict(sign)), encoding="utf-8")
        scratch.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # needs no space on a full disk
            os.utime(path)
        raise


def read(folder: Path, rank: int, token: str) -> tuple[Sign, int] | None:
    """A rank's sign of life and its time of change; None if this attempt has none to be read yet."""
    path = file_of(folder, rank)
    try:
        changed = path.stat().st_mtime_ns
        values = json.loads(path.read_text(encoding="utf-8"))
        identity, state = Identity(**values.pop("identity")), State(values.pop("state"))
        sign = Sign(identity=identity, state=state, **values)
    except (
        OSError,
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
    ):  # not there; or another version's
        return None
    return (sign, changed) if sign.token == token else None


def _born(pid: int) -> str | None:
    """When a process started; None if there is none, or only its remains."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]
