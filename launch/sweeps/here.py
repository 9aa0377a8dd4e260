"""Runs of a sweep on this host: so many at a time, in processes of their own."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from launch.submission import local
from launch.submission.job import TRAIN, own_environment, ranks_per_node
from launch.sweeps.nodes import Node
from trainer import exit_codes
from trainer.config.schema import ClusterConfig

_POLL_S = 0.2
_DEVICE = re.compile(r"nvidia\d+")


@dataclass(frozen=True)
class Ended:
    """A run that is no longer trained.

    Attributes:
        code: its exit code; None where nobody tells.
        was_asked: whether it was asked to leave.
    """

    node: Node
    code: int | None
    seconds: float
    was_asked: bool = False


@dataclass
class _Under:
    """A run that trains."""

    node: Node
    process: subprocess.Popen[bytes]
    slot: int
    since: float


class Here:
    """Starts runs as child processes.

    Attributes:
        stopped_by: the signal that asked this process to leave; its runs were asked too.
    """

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.stopped_by: int | None = None
        self._under: list[_Under] = []

    @property
    def has_room(self) -> bool:
        return len(self._under) < self.at_once

    @property
    def is_idle(self) -> bool:
        return not self._under

    def start(self, node: Node) -> str | None:
        """Start a run; what it prints goes behind what is in its log already."""
        slot = min(set(range(self.at_once)) - {one.slot for one in self._under})
        cluster = with_gpus(node.config.cluster, slot, self.at_once)
        log = log_file(node)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            process = subprocess.Popen(
                command_of(node, cluster),
                env=own_environment() | cluster.environment,
                stdout=file,
                stderr=file,
            )
        self._under.append(_Under(node, process, slot, time.monotonic()))
        return None

    def wait(self, _leaves: Callable[[], bool] = lambda: False) -> list[Ended]:
        """Wait until at least one run has ended; runs that were asked to leave do."""
        while True:
            ended = [one for one in self._under if one.process.poll() is not None]
            if ended or not self._under:
                break
            time.sleep(_POLL_S)
        self._under = [one for one in self._under if one not in ended]
        now = time.monotonic()
        was_asked = self.stopped_by is not None
        return [
            Ended(one.node, one.process.returncode, now - one.since, was_asked) for one in ended
        ]

    @contextmanager
    def passing_on(self) -> Iterator[None]:
        """While it lasts, signals that ask to leave reach the runs, which save first."""

        def leave(number: int, _frame: FrameType | None) -> None:
            self.stopped_by = number
            for one in self._under:
                if one.process.poll() is None:
                    one.process.send_signal(number)

        wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
        before = {number: signal.signal(number, leave) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def exit_code(self) -> int:
        """What this process ends with once it was asked to leave."""
        return exit_codes.STOPPED if self.stopped_by == signal.SIGINT else exit_codes.REQUEUE


def log_file(node: Node) -> Path:
    """What a run prints, over all its starts."""
    return node.root / "logs" / f"{node.folder.replace('/', '-')}.log"


def command_of(node: Node, cluster: ClusterConfig) -> list[str]:
    """What is started: ``launch/train.py`` itself where it has one rank."""
    if ranks_per_node(cluster) == 1:
        return [sys.executable, str(TRAIN), *node.overrides]
    return local.command(node.overrides, cluster)


def with_gpus(cluster: ClusterConfig, slot: int, at_once: int) -> ClusterConfig:
    """The settings of one of several runs on this host: each has GPUs of its own, where there are any.

    Args:
        slot: its place among those that run.
    """
    gpus = visible_gpus()
    if at_once == 1 or not gpus:
        return cluster
    ranks = ranks_per_node(cluster)
    # with fewer GPUs than runs ask for, they take turns on them
    own = [gpus[(slot * ranks + number) % len(gpus)] for number in range(ranks)]
    environment = cluster.environment | {"CUDA_VISIBLE_DEVICES": ",".join(own)}
    return replace(cluster, environment=environment)


def visible_gpus() -> list[str]:
    """GPUs that programs started from here see."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [one.strip() for one in told.split(",") if one.strip() not in ("", "-1")]
    found = sum(_DEVICE.fullmatch(path.name) is not None for path in Path("/dev").glob("nvidia*"))
    return [str(number) for number in range(found)]


def shares(cluster: ClusterConfig, at_once: int) -> list[str]:
    """Overrides by which so many runs share this host: ranks, and the cores among them."""
    if at_once == 1:
        return []
    ranks = cluster.ranks_per_node or 1
    found = [] if cluster.ranks_per_node else ["cluster.ranks_per_node=1"]
    if cluster.threads_per_rank is None:
        # more threads than cores slow each other down manifold
        threads = max(1, len(os.sched_getaffinity(0)) // (at_once * ranks))
        found.append(f"cluster.threads_per_rank={threads}")
    return found
