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
        return _wait(subprocess.Popen(words, env=environment))
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        return _wait(subprocess.Popen(words, env=environment, stdout=file, stderr=file))


def _wait(process: subprocess.Popen[bytes]) -> int:
    try:
        return process.wait()
    except BaseException:
        process.send_signal(signal.SIGINT)
        process.wait()
        raise
