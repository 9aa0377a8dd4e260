"""A run on this host, in processes of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from launch.submission.job import NODE, TRAIN, own_environment, ranks_per_node
from trainer.config.schema import ClusterConfig


def command(overrides: Sequence[str], cluster: ClusterConfig) -> list[str]:
    """What is started."""
    ranks = ("--ranks", str(ranks_per_node(cluster)))
    return [sys.executable, str(NODE), *ranks, str(TRAIN), *overrides]


def run_local(overrides: Sequence[str], cluster: ClusterConfig, log: Path | None = None) -> int:
    """Train here and wait for the end.

    Args:
        log: takes what the run prints, behind what it holds already; None prints it.

    Returns:
        the run's exit code (``trainer.exit_codes``). Ctrl-C stops the run, which saves first, and is
        then raised again.
    """
    words, environment = command(overrides, cluster), own_environment() | cluster.environment
    if log is None:
        return wait_for(subprocess.Popen(words, env=environment))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        return wait_for(subprocess.Popen(words, env=environment, stdout=file, stderr=file))


def wait_for(process: subprocess.Popen[bytes]) -> int:
    """Wait for a launcher; what asks this process to leave reaches it, and is waited for.

    Else the run would train on without the command that waits for it.

    Returns:
        its exit code.
    """
    asked = (signal.SIGTERM, signal.SIGUSR1)
    before = {
        one: signal.signal(one, lambda number, _: process.send_signal(number)) for one in asked
    }
    try:
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
