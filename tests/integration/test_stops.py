"""Runs that are asked to stop: all ranks leave behind one step, and what follows is as if nobody had asked.

One run is stopped in every way, start after start, and then let come to its end; it must leave what a run
leaves that nobody stopped.
"""

from __future__ import annotations

import json
import signal
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from kill_matrix import overrides, result_of
from launching import composed, metrics_of
from rank_processes import NO_REPORT, Act, Outcome, RankProcesses

from trainer.checkpoint.folder import check_content, check_sizes, newest, read_marker, step_name
from trainer.exit_codes import LOST_RANK, REQUEUE, STOPPED, USER_FAULT
from trainer.stopping import _SAME_SECONDS

STEP = "trainer.engine:ZeroEngine.train_step"
EVALUATE = "trainer.run:Run._evaluate"
STEPS = 10  # in two phases
SMALL = (
    "+phase=[mix,hard]",
    "limits.steps_per_phase=5",
    "checkpoint.every_steps=null",
    "checkpoint.every_minutes=null",
    "checkpoint.export=false",
    "evaluation.before_training=true",
    "evaluation.every_steps=4",
    "evaluation.generate=false",
)


def signal_at(target: str, rank: int | None, call: int, number: signal.Signals) -> Act:
    return ("acts:signal_at", {"target": target, "rank": rank, "call": call, "number": number})


@dataclass(frozen=True)
class Stop:
    """One way to be stopped, and what is to come of it.

    Attributes:
        step: behind which all ranks leave; 0 is before the first.
        file: content of a STOP file that lies there from the start.
    """

    code: int
    reason: str
    step: int
    why: str
    act: Act | None = None
    file: str | None = None
    overrides: tuple[str, ...] = field(default=())


# In this order; each start goes on from where the one before left.
STOPS = {
    "preparing": Stop(
        *(REQUEUE, "SIGTERM", 0, "SIGTERM before the first step; nothing was to be saved"),
        signal_at("trainer.train:make_data", 1, 1, signal.SIGTERM),
    ),
    "first evaluation": Stop(
        *(REQUEUE, "SIGUSR1", 0, "Stopped before the first step: rank 1 got SIGUSR1."),
        signal_at(EVALUATE, 1, 1, signal.SIGUSR1),
    ),
    "SIGTERM to one": Stop(
        *(REQUEUE, "SIGTERM", 2, "rank 1 got SIGTERM"), signal_at(STEP, 1, 2, signal.SIGTERM)
    ),
    "SIGINT to the main one": Stop(
        *(STOPPED, "SIGINT", 3, "rank 0 got SIGINT"), signal_at(STEP, 0, 1, signal.SIGINT)
    ),
    # An evaluation is due behind step 4, and is left in its middle.
    "evaluation between": Stop(
        *(REQUEUE, "SIGTERM", 4, "rank 0 got SIGTERM"), signal_at(EVALUATE, 0, 1, signal.SIGTERM)
    ),
    # That evaluation is the first one now; the one of the phase's end follows.
    "evaluation at a phase's end": Stop(
        *(REQUEUE, "SIGUSR1", 5, "rank 1 got SIGUSR1"), signal_at(EVALUATE, 1, 2, signal.SIGUSR1)
    ),
    "SIGUSR1 to all": Stop(
        *(REQUEUE, "SIGUSR1", 6, "rank 1 got SIGUSR1"), signal_at(STEP, None, 1, signal.SIGUSR1)
    ),
    "wall time": Stop(
        *(REQUEUE, "WALL_TIME", 7, "limits.wall_time is over"),
        overrides=("limits.wall_time=00:00:01",),
    ),
    "STOP": Stop(STOPPED, "STOP_FILE", 8, "STOP was found", file=""),
    # Behind step 8 there is an evaluation to be made again, which is as good a place.
    "STOP to requeue": Stop(REQUEUE, "REQUEUE_FILE", 8, "STOP was found", file="requeue\n"),
}


@dataclass(frozen=True)
class Left:
    """What a start left when it was stopped."""

    outcome: Outcome
    stopped: dict[str, Any]
    newest: str | None
    stop_file: bool
    trained: list[int]


def left_by(run: Path, outcome: Outcome) -> Left:
    folder = newest(run / "checkpoints")
    if folder is not None:
        marker = read_marker(folder)
        check_sizes(folder, marker)
        check_content(folder, marker, list(marker.files))
    metrics = metrics_of(run) if (run / "metrics.jsonl").is_file() else []
    return Left(
        outcome,
        json.loads((run / "stopped.json").read_text(encoding="utf-8")),
        None if folder is None else folder.name,
        (run / "STOP").exists(),
        [one["step"] for one in metrics if "loss" in one],
    )


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("stops")
    composed(overrides(made, "unused"))  # generates the data once
    return made


@pytest.fixture(scope="module")
def straight(root: Path, server: RankProcesses) -> Path:
    """A run that nobody stopped."""
    finish(server, root, "straight", "checkpoint.every_steps=4")
    return root / "straight"


def finish(server: RankProcesses, root: Path, name: str, *more: str) -> None:
    outcome = server.run(overrides(root, name, *SMALL, *more), act=NO_REPORT, timeout=300)
    assert outcome.codes == {0: 0, 1: 0}, str(outcome)
    assert not (root / name / "stopped.json").exists()


@pytest.fixture(scope="module")
def stops(root: Path, server: RankProcesses) -> dict[str, Left]:
    """A run that is stopped in every way, and then comes to its end."""
    run, found = root / "stopped", {}
    for name, stop in STOPS.items():
        if stop.file is not None:
            (run / "STOP").write_text(stop.file)
        acts = [NO_REPORT, *([stop.act] if stop.act else [])]
        given = overrides(root, "stopped", *SMALL, *stop.overrides)
        found[name] = left_by(run, server.run(given, act=acts, timeout=300))
    finish(server, root, "stopped")
    return found


@pytest.mark.parametrize("name", STOPS)
def test_all_ranks_leave_behind_one_step(root: Path, stops: dict[str, Left], name: str) -> None:
    stop, left = STOPS[name], stops[name]
    assert left.outcome.codes == {0: stop.code, 1: stop.code}, str(left.outcome)
    assert left.stopped["reason"] == stop.reason
    assert left.stopped["exit_code"] == stop.code
    assert left.newest == (step_name(stop.step) if stop.step else None)
    assert left.trained == list(range(1, stop.step + 1)), "the last step is recorded too"
    if stop.step:
        folder = root / "stopped" / "checkpoints" / step_name(stop.step)
        assert left.stopped["why"].startswith(f"Stopped behind step {stop.step}: ")
        assert stop.why in left.stopped["why"]
        assert f"{folder} is saved; the same command goes on from there" in left.stopped["why"]
    else:
        assert left.stopped["why"] == stop.why
    assert not left.stop_file
    assert f"polyphase: {left.stopped['why']}" in left.outcome.outputs[0]
    assert "Traceback" not in "".join(left.outcome.outputs.values())


def test_a_stopped_run_ends_as_if_nobody_had_asked(
    root: Path, stops: dict[str, Left], straight: Path
) -> None:
    assert len(stops) == len(STOPS)
    expected, found = result_of(straight), result_of(root / "stopped")
    assert [one["step"] for one in expected.metrics if "loss" in one] == list(range(1, STEPS + 1))
    assert found.metrics == expected.metrics
    assert found == expected


def test_one_run_at_a_time_and_a_second_signal_ends_at_once(
    root: Path, server: RankProcesses, straight: Path
) -> None:
    run, frequent = root / "twice", "checkpoint.every_steps=2"
    hang: Act = ("acts:hang_at", {"target": STEP, "rank": 1, "call": 3})
    given = overrides(root, "twice", *SMALL, frequent)
    first = server.start(given, act=[NO_REPORT, hang])
    saved = run / "checkpoints" / step_name(2)
    deadline = time.monotonic() + 120
    while not saved.is_dir() and time.monotonic() < deadline:
        time.sleep(0.1)
    before = (run / "metrics.jsonl").read_bytes()

    second = server.run(given, timeout=120)
    assert second.codes == {0: USER_FAULT, 1: USER_FAULT}
    holder = f"process {first.pids[0]} on {socket.gethostname()}"
    assert f"output_dir: {run} is in use by {holder}" in second.outputs[0]
    assert (run / "metrics.jsonl").read_bytes() == before

    first.kill(1, signal.SIGTERM)  # heard, but rank 1 is not to come to its step's end
    time.sleep(_SAME_SECONDS + 0.5)
    assert first.outcome.codes == {}
    began = time.monotonic()
    first.kill(1, signal.SIGTERM)
    first.wait(10, [1])
    assert time.monotonic() - began < 5
    outcome = first.wait(60)
    assert outcome.codes == {0: LOST_RANK, 1: 128 + signal.SIGTERM}, str(outcome)
    assert newest(run / "checkpoints") == saved
    check_content(saved, read_marker(saved), list(read_marker(saved).files))

    finish(server, root, "twice")
    assert result_of(run) == result_of(straight)


def test_a_run_goes_on_from_anothers_checkpoint_and_then_from_its_own(
    root: Path, server: RankProcesses, straight: Path
) -> None:
    """Phases that the other had finished are taken over; a job that is requeued does not go back."""
    resume = f"resume={straight}/checkpoints/{step_name(8)}"
    acts = [NO_REPORT, signal_at(STEP, 0, 1, signal.SIGTERM)]
    outcome = server.run(overrides(root, "elsewhere", *SMALL, resume), act=acts, timeout=300)
    left = left_by(root / "elsewhere", outcome)
    assert outcome.codes == {0: REQUEUE, 1: REQUEUE}, str(outcome)
    assert (left.newest, left.trained) == (step_name(9), list(range(1, 10)))
    finish(server, root, "elsewhere", resume)
    log = (root / "elsewhere" / "log" / "rank_0.log").read_text(encoding="utf-8")
    assert "Resumes behind step 8 (3 of 5 steps of phase 'hard')" in log
    assert "Stopped behind step 9: rank 0 got SIGTERM" in log
    assert "Resumes behind step 9 (4 of 5 steps of phase 'hard')" in log
    assert result_of(root / "elsewhere") == result_of(straight)
