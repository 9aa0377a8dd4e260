"""Requests to stop: how each is heard, what it ends with, and that a second one is not waited with."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
import torch.distributed as dist

from tests.shared_config import faults_of, put, sound_config
from trainer import exit_codes, stopping
from trainer.config.times import wall_seconds
from trainer.distributed import Ranks
from trainer.run_directory import RunDirectory
from trainer.stopping import Agreed, Reason, Stopped, Stops

ONE = Ranks(0, 1, 0, 1)
NOTHING = Agreed(Reason.NONE, "", False, False)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


@pytest.fixture
def stops(run: RunDirectory) -> Iterator[Stops]:
    """A single rank that trains and listens."""
    made = Stops(run, ONE, None, None)
    made.listen()
    made.begin_training()
    yield made
    made.close()


# --- wall time


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0:0:1", 1),
        ("00:30:00", 1800),
        ("1:02:03", 3723),
        ("100:00:00", 360_000),
        ("1-00:00:00", 86_400),
        ("7-12:30:05", 7 * 86_400 + 12 * 3600 + 1805),
    ],
)
def test_wall_time(text: str, seconds: float) -> None:
    assert wall_seconds(text) == seconds


# SLURM reads 90 and 90:00 as minutes, 1-12 as days and hours; people do not.
@pytest.mark.parametrize(
    "text",
    [
        *("", "90", "30:00", "1-12", "1-12:30", "1:60:00", "1:00:60", "-1:00:00", "1:2:3:4"),
        *("1h", "UNLIMITED", " 1:00:00", "1:00:00\n", "1.5:00:00"),
    ],
)
def test_no_wall_time(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"is not .days-.hours:minutes:seconds"):
        wall_seconds(text)
    config = sound_config(tmp_path)
    put("limits.wall_time", text)(config)
    (fault,) = faults_of(config)
    assert (fault.where, fault.seen) == (
        "limits.wall_time",
        f"{text!r} is not [days-]hours:minutes:seconds",
    )


def test_wall_time_counts_from_the_start_of_the_process(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    age = time.time() - psutil.Process().create_time()
    left = 50.0
    total = int(age + left)
    text = f"{total // 3600}:{total // 60 % 60:02}:{total % 60:02}"
    stops = Stops(run, ONE, None, text)
    assert stops.agree() == NOTHING
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + left - 3)
    assert stops.agree() == NOTHING
    monkeypatch.setattr(time, "monotonic", lambda: now + left + 1)
    assert stops.agree() == Agreed(Reason.WALL_TIME, "limits.wall_time is over", False, False)
    assert stops.agree().reason is Reason.WALL_TIME, "it goes on saying so"


def test_a_clock_that_was_set_back_makes_no_process_older(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "time", lambda: 1.0)
    now = time.monotonic()
    stops = Stops(run, ONE, None, "0:01:00")
    monkeypatch.setattr(time, "monotonic", lambda: now + 59)
    assert stops.agree() == NOTHING
    monkeypatch.setattr(time, "monotonic", lambda: now + 62)
    assert stops.agree().reason is Reason.WALL_TIME


# --- reasons


def test_exit_codes() -> None:
    by_hand = {one for one in Reason if one.exit_code == exit_codes.STOPPED}
    assert by_hand == {Reason.STOP_FILE, Reason.SIGINT}
    again = {one for one in Reason if one.exit_code == exit_codes.REQUEUE}
    assert again == set(Reason) - by_hand
    assert (Stopped(Reason.SIGTERM, "w").exit_code, Stopped(Reason.SIGINT, "w").exit_code) == (
        99,
        98,
    )


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (signal.SIGTERM, Reason.SIGTERM),
        (signal.SIGINT, Reason.SIGINT),
        (signal.SIGUSR1, Reason.SIGUSR1),
    ],
)
def test_signals_are_heard(stops: Stops, number: signal.Signals, reason: Reason) -> None:
    assert stops.agree() == NOTHING
    os.kill(os.getpid(), number)
    assert stops.agree() == Agreed(reason, f"rank 0 got {reason.name}", False, False)


def test_before_training_a_signal_ends_at_once(run: RunDirectory) -> None:
    stops = Stops(run, ONE, None, None)
    stops.listen()
    try:
        with pytest.raises(Stopped, match="SIGTERM before the first step") as caught:
            os.kill(os.getpid(), signal.SIGTERM)
        assert caught.value.exit_code == exit_codes.REQUEUE
        # Some library may have swallowed it.
        with pytest.raises(Stopped, match="SIGTERM before the first step"):
            stops.begin_training()
    finally:
        stops.close()


def test_the_others_leave_with_a_rank_that_leaves_before_training(run: RunDirectory) -> None:
    """Their next collective fails for want of it."""
    one, other = (Stops(run, Ranks(rank, 2, rank, 2), None, None) for rank in range(2))
    one.listen()
    try:
        with pytest.raises(Stopped):
            os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        one.close()

    def fails(error: Exception) -> BaseException:
        with pytest.raises(type(error)) as caught, other.together():
            raise error
        return caught.value

    lost = RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:1")
    with pytest.raises(Stopped, match="SIGUSR1 before the first step") as caught, other.together():
        raise lost
    assert (caught.value.exit_code, caught.value.__cause__) == (exit_codes.REQUEUE, lost)
    mine = ValueError("a mistake of its own")
    assert fails(mine) is mine
    other.forget()
    assert fails(lost) is lost, "an earlier start's note counts no longer"
    other.forget()


def test_signals_are_given_back(run: RunDirectory) -> None:
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = [signal.getsignal(number) for number in numbers]
    stops = Stops(run, ONE, None, None)
    stops.listen()
    assert all(signal.getsignal(number) != one for number, one in zip(numbers, before, strict=True))
    stops.close()
    stops.close()
    assert [signal.getsignal(number) for number in numbers] == before


def test_another_thread_cannot_take_signals_over(run: RunDirectory) -> None:
    before = signal.getsignal(signal.SIGTERM)
    stops = Stops(run, ONE, None, None)
    thread = threading.Thread(target=stops.listen)
    thread.start()
    thread.join()
    assert signal.getsignal(signal.SIGTERM) is before


# --- the STOP file


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", Reason.STOP_FILE),
        ("anything", Reason.STOP_FILE),
        ("requeue", Reason.REQUEUE_FILE),
        (" requeue\n", Reason.REQUEUE_FILE),
        ("requeue please", Reason.STOP_FILE),
        ("\udcff", Reason.STOP_FILE),
    ],
)
def test_the_stop_file(run: RunDirectory, text: str, reason: Reason) -> None:
    run.stop_file.write_bytes(text.encode(errors="surrogateescape"))
    agreed = Stops(run, ONE, None, None).agree()
    assert agreed == Agreed(reason, f"{run.stop_file} was found", False, False)


def test_the_stop_file_is_looked_for_once_a_second(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    stops, now = Stops(run, ONE, None, None), 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    assert stops.agree() == NOTHING
    run.stop_file.touch()
    now += 0.9
    assert stops.agree() == NOTHING
    now += 0.2
    assert stops.agree().reason is Reason.STOP_FILE


def test_only_the_main_rank_looks(run: RunDirectory) -> None:
    run.stop_file.touch()
    other = Stops(run, Ranks(1, 2, 1, 2), None, "0:00:00")
    assert other.agree() == NOTHING


def test_a_signal_outranks_a_file(run: RunDirectory, stops: Stops) -> None:
    run.stop_file.touch()
    os.kill(os.getpid(), signal.SIGTERM)
    assert stops.agree().reason is Reason.SIGTERM


# --- agreement


def test_notes_of_all_ranks_meet(run: RunDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only the main rank's clock asks for a checkpoint; any rank's failure and request counts."""
    sent: list[list[int]] = []
    monkeypatch.setattr(dist, "all_reduce", lambda notes, *_, **__: sent.append(notes.tolist()))
    group = object()

    def note(rank: int, save: bool, failed: bool, heard: Reason = Reason.NONE) -> list[int]:
        stops = Stops(run, Ranks(rank, 8, rank, 8), group, None)  # type: ignore[arg-type]
        stops._asked.take(heard, 0.0)
        stops.agree(save, failed)
        return sent[-1]

    assert note(0, True, False) == [0, 1, 0]
    assert note(3, True, False) == [0, 0, 0]
    assert note(3, False, True) == [0, 0, 1]
    notes = [note(2, False, False, Reason.SIGINT), note(5, False, False, Reason.SIGTERM)]
    greatest = torch.tensor(notes).max(dim=0).values

    def reduce(mine: torch.Tensor, *_: object, **__: object) -> None:
        mine.copy_(torch.maximum(mine, greatest))

    monkeypatch.setattr(dist, "all_reduce", reduce)
    for rank in (0, 2, 5):
        stops = Stops(run, Ranks(rank, 8, rank, 8), group, None)  # type: ignore[arg-type]
        assert stops.agree() == Agreed(Reason.SIGTERM, "rank 5 got SIGTERM", False, False)


# --- a second signal


def after_signals(run: RunDirectory, *signals: str) -> tuple[int, str]:
    """Exit code and agreed reason of a process that gets signals, ``NAME:seconds after the last``."""
    told, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            stops = Stops(run, ONE, None, None)
            stops.listen()
            stops.begin_training()
            for name, _, after in (word.partition(":") for word in signals):
                time.sleep(float(after))
                os.kill(os.getpid(), signal.Signals[name])
            os.write(tell, stops.agree().reason.name.encode())
            os._exit(0)
        finally:
            os._exit(1)
    os.close(tell)
    _, status = os.waitpid(pid, 0)
    reason = os.read(told, 100).decode()
    os.close(told)
    return os.waitstatus_to_exitcode(status), reason


@pytest.mark.parametrize(
    ("signals", "code", "reason"),
    [
        # Launchers pass on what they get, and the scheduler has sent it to all already.
        (["SIGTERM:0", "SIGTERM:0", "SIGTERM:0"], 0, "SIGTERM"),
        (["SIGINT:0", "SIGTERM:0"], 0, "SIGINT"),
        (["SIGINT:0", "SIGINT:0.3"], 128 + signal.SIGINT, ""),
        (["SIGTERM:0", "SIGINT:0.3"], 128 + signal.SIGINT, ""),
        # A warning ahead of the end; the end itself; and somebody who cannot wait.
        (["SIGUSR1:0", "SIGTERM:0.3"], 0, "SIGTERM"),
        (["SIGUSR1:0", "SIGTERM:0.3", "SIGTERM:0.3"], 128 + signal.SIGTERM, ""),
        (["SIGUSR1:0", "SIGUSR1:0.3"], 128 + signal.SIGUSR1, ""),
    ],
)
def test_a_second_signal(
    run: RunDirectory,
    monkeypatch: pytest.MonkeyPatch,
    signals: list[str],
    code: int,
    reason: str,
) -> None:
    monkeypatch.setattr(stopping, "_SAME_SECONDS", 0.2)
    assert after_signals(run, *signals) == (code, reason)


def test_a_second_signal_where_python_hears_none(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_SAME_SECONDS", 0.2)
    pid = os.fork()
    if pid == 0:
        try:
            stops = Stops(run, ONE, None, None)
            stops.listen()
            stops.begin_training()
            # as a collective does: it comes back to no line of Python, whatever signal arrives
            ctypes.CDLL(None).pthread_mutex_lock(held := ctypes.create_string_buffer(64))
            ctypes.CDLL(None).pthread_mutex_lock(held)
        finally:
            os._exit(1)
    time.sleep(1.0)
    for _ in range(2):
        os.kill(pid, signal.SIGTERM)
        time.sleep(0.5)
    deadline = time.monotonic() + 10
    ended = (0, 0)
    while ended == (0, 0) and time.monotonic() < deadline:
        time.sleep(0.05)
        ended = os.waitpid(pid, os.WNOHANG)
    if ended == (0, 0):
        os.kill(pid, signal.SIGKILL)
        ended = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(ended[1]) == 128 + signal.SIGTERM


def test_signals_of_forked_processes_are_their_own(
    stops: Stops, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "_SAME_SECONDS", 0.0)
    pid = os.fork()
    if pid == 0:
        signal.signal(signal.SIGTERM, lambda *_: None)
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        os._exit(0)
    os.waitpid(pid, 0)
    time.sleep(0.3)  # this process would end
    assert stops.agree() == NOTHING


def test_the_same_request_may_take_seconds_to_be_passed_on() -> None:
    assert 2 <= stopping._SAME_SECONDS <= 5  # launchers look once a second
