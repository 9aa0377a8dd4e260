"""The harness for faults of ranks: quick to start, true to a real launch, and nothing is left of it."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest
from launching import composed, steps_of, train_under_torchrun, without_clocks
from rank_processes import NO_REPORT, RankProcesses
from test_run import overrides

from trainer import exit_codes

QUICK = ("+phase=mix", "evaluation=none", "checkpoint=none")
STEP = "trainer.engine:ZeroEngine.train_step"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


def test_two_ranks_start_within_three_seconds(root: Path, server: RankProcesses) -> None:
    act = ("acts:kill_at", {"target": "launch.train:command", "rank": None})
    server.run(overrides(root, "start", *QUICK), act=act)  # the server may still be importing
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        outcome = server.run(overrides(root, "start", *QUICK), act=act)
        seconds.append(time.monotonic() - began)
        assert outcome.codes == {0: -signal.SIGKILL, 1: -signal.SIGKILL}
    assert min(seconds) < 3  # the machine may be busy, but not for all three


def test_an_unforeseen_error_ends_a_rank_with_its_traceback(
    root: Path, server: RankProcesses
) -> None:
    act = ("acts:raise_at", {"target": STEP, "rank": 0, "arguments": ["no reason"]})
    outcome = server.run(overrides(root, "error", *QUICK), ranks=1, act=act)
    assert outcome.codes == {0: 1}
    assert outcome.outputs[0].endswith("RuntimeError: no reason\n")


def test_metrics_are_those_of_torchrun(root: Path, server: RankProcesses) -> None:
    composed(overrides(root, "unused"))  # generates the data once
    outcome = server.run(overrides(root, "forked", *QUICK), act=NO_REPORT)
    assert outcome.codes == {0: 0, 1: 0}, str(outcome)
    train_under_torchrun([overrides(root, "launched", *QUICK)], 2, root)
    forked, launched = steps_of(root / "forked"), steps_of(root / "launched")
    assert len(forked) == 3
    assert [without_clocks(one) for one in forked] == [without_clocks(one) for one in launched]


def test_codes_are_those_of_the_command_line(root: Path, server: RankProcesses) -> None:
    for hydra in (False, True):
        given = overrides(root, "fault", *QUICK, "seed=x")
        outcome = server.run(given, hydra=hydra, launcher_like=True)
        # the second one waits for the first to tell, and the launcher then ends it
        assert outcome.codes == {0: 2, 1: -signal.SIGTERM}
        assert "polyphase: 1 fault:\n  - seed: 'x'" in outcome.outputs[0]
        assert outcome.outputs[1] == ""


def test_a_launcher_brings_the_others_down(root: Path, server: RankProcesses) -> None:
    kill = ("acts:kill_at", {"target": STEP, "rank": 1, "call": 2})
    settings = (*overrides(root, "killed", *QUICK), "logging.console_seconds=0")
    outcome = server.run(list(settings), act=kill, launcher_like=True)
    # it hears SIGTERM, and then that a rank is gone
    assert outcome.codes == {0: exit_codes.LOST_RANK, 1: -signal.SIGKILL}
    assert len(steps_of(root / "killed")) <= 1  # figures are written one step late


def test_nothing_outlives_the_server(root: Path) -> None:
    stop = ("acts:stop_at", {"target": STEP, "rank": 0})
    with RankProcesses(root / "left") as server:
        launched = server.start(overrides(root, "stopped", *QUICK), act=stop)
        launched.wait_for_text("derived:", 0, 60)
        deadline = time.monotonic() + 60
        while _state(launched.pids[0]) != "T" and time.monotonic() < deadline:
            time.sleep(0.05)
        with pytest.raises(TimeoutError, match="exit codes"):
            launched.wait(0.1)
    assert [_state(pid) for pid in launched.pids.values()] == ["", ""]


def _state(pid: int) -> str:
    """The state letter of a process; empty if there is none."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.read_text().rpartition(")")[2].split()[0] if stat.exists() else ""
