"""The watchdog's thread in this process: its signs of life, and how a rank leaves."""

from __future__ import annotations

import faulthandler
import json
import time
from pathlib import Path
from typing import Any

import pytest

from data_modules.faults import DataFault, Fault
from trainer import watchdog
from trainer.config.schema import ClusterConfig
from trainer.distributed import Ranks
from trainer.run_directory import RunDirectory
from trainer.watchdog.signs import State
from trainer.watchdog.watch import Watchdog

ALONE = Ranks(0, 1, 0, 1)
QUICK = ClusterConfig(stall_timeout_s=20, heartbeat_s=0.02)


def sign_of(run: RunDirectory) -> dict[str, Any]:
    return json.loads((run.alive / "rank_0.json").read_text(encoding="utf-8"))


def wait_for(run: RunDirectory, beat: int) -> dict[str, Any]:
    until = time.monotonic() + 20
    while sign_of(run)["beat"] < beat and time.monotonic() < until:
        time.sleep(0.005)
    return sign_of(run)


def test_signs_of_life_tell_where_the_rank_is(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    with watchdog.watching(run, ALONE, QUICK):
        watchdog.at("step 12: backward")
        sign = wait_for(run, sign_of(run)["beat"] + 2)
        assert sign["state"] == "running"
        assert sign["place"] == "step 12: backward"
        assert "tests/trainer/watchdog/test_watch.py" in sign["where"]
        assert wait_for(run, sign["beat"] + 2)["seconds"] > sign["seconds"]
        with watchdog.paused("planning"):
            assert wait_for(run, sign_of(run)["beat"] + 2)["paused"] is True
    last = sign_of(run)
    assert last["state"] == "done"
    time.sleep(0.1)
    assert sign_of(run) == last  # the thread has ended
    assert not run.stacks(0).exists()


@pytest.mark.parametrize(
    ("error", "state", "words"),
    [
        (DataFault(Fault("a", "b", "c")), "done", ""),  # all ranks raise it
        (ValueError("first\nsecond"), "failed", "ValueError: first"),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt: "),
    ],
)
def test_how_a_rank_left(tmp_path: Path, error: BaseException, state: str, words: str) -> None:
    run = RunDirectory(tmp_path)
    with pytest.raises(type(error)), watchdog.watching(run, ALONE, QUICK):
        raise error
    assert (sign_of(run)["state"], sign_of(run)["words"]) == (state, words)


def test_a_rank_that_leaves_is_not_called_running_again(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    watch = Watchdog(run, ALONE, QUICK)
    watch._leaving.acquire()  # as the main thread does, while the watchdog's goes on
    watch._beat(State.lost, "rank 1 is gone")
    last = sign_of(run)
    time.sleep(0.2)
    assert sign_of(run) == last
    assert last["state"] == "lost"
    watch._leaving.release()
    watch.close(State.done)


def test_earlier_attempts_leave_nothing(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.alive.mkdir()
    for name in ("rank_0.json", "rank_7.json", "told_a_7"):
        (run.alive / name).write_text("{}")
    with watchdog.watching(run, ALONE, QUICK):
        pass
    assert [path.name for path in run.alive.iterdir()] == ["rank_0.json"]


def test_a_watchdog_that_cannot_write_says_so_once_and_goes_on(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.alive.write_text("in the way")
    with watchdog.watching(run, ALONE, QUICK):
        time.sleep(0.2)
    log = run.log(0).read_text(encoding="utf-8")
    assert log.count("the sign of life cannot be written") == 1
    assert log.count("ERROR") == 1


def test_an_error_of_its_own_is_not_explained_by_others(tmp_path: Path) -> None:
    assert watchdog.explain_lost(RuntimeError("gloo: Connection closed by peer")) is None
    with watchdog.watching(RunDirectory(tmp_path), ALONE, QUICK):
        assert watchdog.explain_lost(RuntimeError("gloo: Connection closed by peer")) is None


def test_the_timer_of_the_interpreter_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *_, **__: calls.append("set"))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: calls.append("off"))
    with watchdog.watching(RunDirectory(tmp_path), ALONE, QUICK):
        time.sleep(0.1)
    assert calls.count("off") == 1
    assert calls[-1] == "off"
    assert len(calls) > 2
