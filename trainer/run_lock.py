"""One run at a time in a run directory."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from data_modules.faults import ConfigFault, Fault
from trainer.config.schema import ClusterConfig
from trainer.console import make_console
from trainer.run_directory import RunDirectory


def patience(cluster: ClusterConfig) -> float:
    """Seconds to wait for a run that holds the lock: none, unless this is a job that SLURM brought back.

    Its last turn may live on, on a node that lost its network but not the file system. Its ranks find
    out within the stall timeout and leave. Ours wait for the main one as long as a collective may take.
    """
    if int(os.environ.get("SLURM_RESTART_COUNT", "0")) == 0:
        return 0.0
    return min(cluster.stall_s + 6 * cluster.heartbeat_s, 0.95 * cluster.process_group_timeout_s)


class RunLock:
    """Held by a run's main rank while it lives; the system lets go of it, whatever ends the process."""

    def __init__(self, run: RunDirectory) -> None:
        self._run = run
        self._lock = FileLock(str(run.root / ".lock"))

    def take(self, patience: float = 0.0) -> None:
        """Take the lock.

        Args:
            patience: seconds to wait for another process that has it.

        Raises:
            ConfigFault: another process has it, or the run directory cannot be written.
        """
        root = self._run.root
        try:
            root.mkdir(parents=True, exist_ok=True)
            self._acquire(patience)
            self._holder.write_text(
                json.dumps({"host": socket.gethostname(), "pid": os.getpid()}), encoding="utf-8"
            )
        except Timeout:
            raise ConfigFault(
                Fault(
                    "output_dir",
                    f"{root} is in use by {self._who()}",
                    "two runs in one directory would overwrite each other",
                    "Wait for it, stop it, or set another run_name.",
                )
            ) from None
        except OSError as error:
            raise ConfigFault(
                Fault(
                    "output_dir",
                    f"{root}: {error.strerror or error}",
                    "a run writes all that it makes there",
                    "Choose a folder that can be written with output_dir=...",
                )
            ) from error

    def _acquire(self, patience: float) -> None:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            if not patience:
                raise
            make_console().print(
                f"{self._run.root} is in use by {self._who()}: waiting up to {patience:.0f} s for its end, "
                "as this job was requeued and its last turn may still run on a node that was cut off.",
                soft_wrap=True,
            )
            self._lock.acquire(timeout=patience, poll_interval=0.5)

    def release(self) -> None:
        """Let go."""
        if self._lock.is_locked:
            self._holder.unlink(missing_ok=True)
            self._lock.release()

    @property
    def _holder(self) -> Path:
        return self._run.root / ".lock.holder"

    def _who(self) -> str:
        try:
            found = json.loads(self._holder.read_text(encoding="utf-8"))
            return f"process {found['pid']} on {found['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another run"
