"""One run at a time in a run directory, whatever ends the one before."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from data_modules.faults import ConfigFault, Fault
from tests.shared_data import REPOSITORY
from trainer.config.schema import ClusterConfig
from trainer.run_directory import RunDirectory
from trainer.run_lock import RunLock, patience

HOLD = """
import sys
from pathlib import Path
from trainer.run_directory import RunDirectory
from trainer.run_lock import RunLock
lock = RunLock(RunDirectory(Path(sys.argv[1])))
lock.take()
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "outputs" / "one")


@contextmanager
def held_elsewhere(run: RunDirectory) -> Iterator[subprocess.Popen[str]]:
    """Another process holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def fault_of(run: RunDirectory) -> Fault:
    with pytest.raises(ConfigFault) as caught:
        RunLock(run).take()
    (fault,) = caught.value.faults
    return fault


def test_the_holder_is_named_and_kill_9_frees_it(run: RunDirectory) -> None:
    with held_elsewhere(run) as process:
        fault = fault_of(run)
        assert fault.where == "output_dir"
        holder = f"process {process.pid} on {socket.gethostname()}"
        assert fault.seen == f"{run.root} is in use by {holder}"
        assert "run_name" in fault.remedy
        (run.root / ".lock.holder").write_text("{")
        assert fault_of(run).seen == f"{run.root} is in use by another run"
        process.send_signal(signal.SIGKILL)
        process.wait()
        lock = RunLock(run)
        lock.take()
        assert json.loads((run.root / ".lock.holder").read_text())["pid"] == os.getpid()
        lock.release()


def test_a_requeued_job_waits_for_its_last_turn(
    run: RunDirectory, capsys: pytest.CaptureFixture[str]
) -> None:
    with held_elsewhere(run) as process:
        lock, began = RunLock(run), time.monotonic()
        ending = threading.Timer(1.0, process.kill)
        ending.start()
        lock.take(60)
        ending.join()
        assert 1 <= time.monotonic() - began < 30
        assert json.loads((run.root / ".lock.holder").read_text())["pid"] == os.getpid()
        lock.release()
    told = capsys.readouterr().out
    assert f"in use by process {process.pid} on {socket.gethostname()}: waiting up to 60 s" in told


def test_its_patience_has_an_end(run: RunDirectory) -> None:
    with held_elsewhere(run) as process:
        began = time.monotonic()
        with pytest.raises(ConfigFault, match=f"in use by process {process.pid}"):
            RunLock(run).take(1.0)
        assert 1 <= time.monotonic() - began < 30


def test_only_a_requeued_job_is_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = ClusterConfig(process_group_timeout_s=100, stall_timeout_s=50, heartbeat_s=2)
    monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)
    assert patience(cluster) == 0
    monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
    assert patience(cluster) == 0
    monkeypatch.setenv("SLURM_RESTART_COUNT", "2")
    assert patience(cluster) == 62
    cluster.stall_timeout_s = 95  # the other ranks give up at 100
    assert patience(cluster) == 95


def test_two_locks_of_one_process_are_two_runs(run: RunDirectory) -> None:
    first = RunLock(run)
    first.take()
    assert f"process {os.getpid()} on" in fault_of(run).seen
    first.release()
    second = RunLock(run)
    second.take()
    first.release()  # releasing twice takes nothing from the second
    assert f"process {os.getpid()} on" in fault_of(run).seen
    second.release()
    assert not (run.root / ".lock.holder").exists()


def test_other_runs_are_free(run: RunDirectory, tmp_path: Path) -> None:
    first, other = RunLock(run), RunLock(RunDirectory(tmp_path / "outputs" / "two"))
    first.take()
    other.take()
    other.release()
    first.release()


def test_a_directory_that_cannot_be_made_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    fault = fault_of(RunDirectory(tmp_path / "file" / "one"))
    assert (fault.where, fault.seen) == (
        "output_dir",
        f"{tmp_path / 'file' / 'one'}: Not a directory",
    )


def test_a_process_that_its_holder_started_does_not_hold_it(run: RunDirectory) -> None:
    """Else a run killed in an evaluation would be locked out by its own sandbox."""
    lock = RunLock(run)
    lock.take()
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"],
        stdin=subprocess.PIPE,
        close_fds=False,
    )
    try:
        lock.release()
        again = RunLock(run)
        again.take()
        again.release()
    finally:
        child.kill()
        child.communicate()
