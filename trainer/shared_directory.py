"""Whether the ranks of all hosts see one run directory."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path

from data_modules.faults import ConfigFault, Fault
from trainer.distributed import Ranks, from_main, on_every_rank


def check_shared(root: Path, ranks: Ranks) -> None:
    """Refuse run directories that only have their path in common; collective.

    Raises:
        ConfigFault: on every rank, if a host sees another one than the main rank, which has made it.
    """
    if ranks.local_world_size == ranks.world_size:
        return

    def leave_mark() -> str:
        # a name that nobody has looked for: file systems remember what was not there
        mark = root / f".seen_{secrets.token_hex(8)}"
        try:
            mark.touch()
        except OSError as error:
            raise _fault(root, f"{error.strerror or error}") from error
        return f"{socket.gethostname()}:{mark.name}"

    host, _, name = from_main(ranks, leave_mark).partition(":")

    def look() -> None:
        if not (root / name).exists():
            raise _fault(root, f"host {socket.gethostname()} sees another folder than {host} does")

    try:
        on_every_rank(ranks, look)
    finally:
        if ranks.is_main:
            (root / name).unlink(missing_ok=True)


def _fault(root: Path, seen: str) -> ConfigFault:
    return ConfigFault(
        Fault(
            "output_dir",
            f"{root}: {seen}",
            "the ranks of all hosts write into one run directory",
            "Put it on a file system that all hosts share, with output_dir=...",
        )
    )
