"""Runs as child processes: so many at a time, their shares of the host, signals passed on."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import launch.sweeps.here
from launch.submission.job import TRAIN
from launch.sweeps.grid import told
from launch.sweeps.here import Here, command_of, log_file, shares, visible_gpus, with_gpus
from launch.sweeps.nodes import Node
from trainer.config.schema import ClusterConfig, Config

#: Prints, then leaves with 99 on SIGTERM and with 0 when its file is there.
CHILD = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(99))
print("ready", flush=True)
while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.01)
"""


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Here:
    monkeypatch.setattr(
        launch.sweeps.here,
        "command_of",
        lambda node, cluster: [sys.executable, "-c", CHILD, str(node.run / "end")],
    )
    return Here(2)


def node(root: Path, name: str) -> Node:
    (root / "runs" / name).mkdir(parents=True)
    return Node(root, f"runs/{name}", {}, (), Config())


def wait_until_ready(one: Node) -> None:
    end = time.monotonic() + 60
    while not log_file(one).is_file() or "ready" not in log_file(one).read_text():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_runs_that_end_make_room(here: Here, tmp_path: Path) -> None:
    a, b = node(tmp_path, "a"), node(tmp_path, "b")
    assert here.is_idle
    here.start(a)
    assert here.has_room
    here.start(b)
    assert not here.has_room
    (b.run / "end").touch()
    (ended,) = here.wait()
    assert (ended.node, ended.code) == (b, 0)
    assert here.has_room
    (a.run / "end").touch()
    assert [one.node for one in here.wait()] == [a]
    assert here.is_idle
    assert here.wait() == []


def test_a_signal_reaches_the_runs(here: Here, tmp_path: Path) -> None:
    a, b = node(tmp_path, "a"), node(tmp_path, "b")
    before = signal.getsignal(signal.SIGTERM)
    with here.passing_on():
        for one in (a, b):
            here.start(one)
            wait_until_ready(one)
        os.kill(os.getpid(), signal.SIGTERM)
        codes = [one.code for one in here.wait()]
        while not here.is_idle:
            codes += [one.code for one in here.wait()]
    assert codes == [99, 99]
    assert (here.stopped_by, here.exit_code) == (signal.SIGTERM, 99)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_that_is_left_before_it_trains_has_not_failed(here: Here, tmp_path: Path) -> None:
    """Nothing catches SIGINT there yet."""
    one = node(tmp_path, "a")
    with here.passing_on():
        here.start(one)
        wait_until_ready(one)
        os.kill(os.getpid(), signal.SIGINT)
        (ended,) = here.wait()
    assert ended.code not in (0, None)
    line = told(ended, "a.log", is_finished=False)
    assert line == f"runs/a: left before it trained with exit code {ended.code}, see a.log"
    unasked = told(replace(ended, was_asked=False), "a.log", is_finished=False)
    assert unasked == f"runs/a: FAILED with exit code {ended.code}, see a.log"


def test_what_is_printed_is_kept_over_starts(here: Here, tmp_path: Path) -> None:
    a = node(tmp_path, "a")
    (a.run / "end").touch()
    for _ in range(2):
        here.start(a)
        here.wait()
    assert log_file(a).read_text() == "ready\nready\n"


def test_a_run_of_one_rank_needs_no_launcher(tmp_path: Path) -> None:
    one = Node(tmp_path, "runs/a", {}, ("seed=1",), Config())
    words = command_of(one, ClusterConfig(ranks_per_node=1))
    assert words == [sys.executable, str(TRAIN), "seed=1"]
    assert "--ranks" in command_of(one, ClusterConfig(ranks_per_node=2))


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    assert shares(ClusterConfig(), 1) == []
    assert shares(ClusterConfig(), 2) == [
        *("cluster.ranks_per_node=1", "cluster.threads_per_rank=4"),
    ]
    assert shares(ClusterConfig(ranks_per_node=2), 2) == ["cluster.threads_per_rank=2"]
    assert shares(ClusterConfig(threads_per_rank=3), 99) == ["cluster.ranks_per_node=1"]
    assert shares(ClusterConfig(), 99)[1] == "cluster.threads_per_rank=1"


def test_every_run_has_gpus_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen_by(slot: int, at_once: int, ranks: int) -> str | None:
        cluster = with_gpus(ClusterConfig(ranks_per_node=ranks), slot, at_once)
        return cluster.environment.get("CUDA_VISIBLE_DEVICES")

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert visible_gpus() == ["4", "5", "6", "7"]
    assert [seen_by(slot, 2, 2) for slot in range(2)] == ["4,5", "6,7"]
    assert [seen_by(slot, 5, 1) for slot in range(5)] == ["4", "5", "6", "7", "4"]
    assert seen_by(0, 1, 2) is None, "one run alone has the host"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert seen_by(0, 2, 1) is None
