"""A rank that dies or hangs brings the run down in time, with a message that names it and its host."""

from __future__ import annotations

import re
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from launching import composed
from rank_processes import Outcome, RankProcesses
from test_run import overrides

from trainer.exit_codes import LOST_RANK

HEARTBEAT, STALL = 0.5, 6.0
#: For a start on a busy machine, and what a rank does when it leaves.
STARTING, LEAVING = 25.0, 5.0
SETTINGS = (
    *("+phase=mix", "evaluation=none", "checkpoint=none", "interference.every_steps=null"),
    f"cluster.heartbeat_s={HEARTBEAT}",
    f"cluster.stall_timeout_s={STALL}",
)
STEP = "trainer.engine:ZeroEngine.train_step"
FORWARD = "trainer.engine:ZeroEngine._forward"
DATA = "data_modules.phase_data_module:PhaseDataModule.step_batches"
HOST = socket.gethostname()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("lost")
    composed(overrides(root, "unused"))  # generates the data once
    return root


@dataclass(frozen=True)
class Loss:
    """What befalls a rank.

    Attributes:
        codes: exit codes of both ranks.
        words: of the message that names the rank.
        within: seconds from the start to the end of both.
    """

    name: str
    act: str
    target: str
    rank: int
    codes: dict[int, int]
    words: str
    within: float = STARTING + LEAVING


GONE = "is gone: its process does not exist any more"
SILENT = r"has given no sign of life for \d s; its process exists"
LOSSES = [
    Loss("killed-1", "kill_at", FORWARD, 1, {0: LOST_RANK, 1: -signal.SIGKILL}, GONE),
    Loss("killed-0", "kill_at", FORWARD, 0, {0: -signal.SIGKILL, 1: LOST_RANK}, GONE),
    # the launcher ends it; nothing in it can
    Loss(
        *("stopped", "stop_at", STEP, 1, {0: LOST_RANK, 1: -signal.SIGKILL}),
        words=SILENT,
        within=STARTING + STALL + LEAVING,
    ),
    Loss(
        *("no-data", "hang_at", DATA, 1, {0: LOST_RANK, 1: LOST_RANK}),
        words=r"is at 'step 2: data' for \d s, main thread at .*, from data_modules/prefetch\.py:\d+",
        within=STARTING + STALL + LEAVING,
    ),
    # its own timer ends it, with the code of faulthandler
    Loss(
        *("gil", "hold_gil_at", STEP, 1, {0: LOST_RANK, 1: 1}),
        words=SILENT,
        within=STARTING + STALL + LEAVING,
    ),
    Loss(
        *("error", "raise_at", STEP, 1, {0: LOST_RANK, 1: 1}),
        words=r"ended with an error at 'step 2: forward and backward': RuntimeError: made to fail\.",
    ),
]


def lose(server: RankProcesses, root: Path, loss: Loss, **more: Any) -> Outcome:
    act = (f"acts:{loss.act}", {"target": loss.target, "rank": loss.rank, "call": 2})
    return server.run(overrides(root, loss.name, *SETTINGS), act=act, timeout=loss.within, **more)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.name)
def test_a_lost_rank_ends_the_run_by_name(root: Path, server: RankProcesses, loss: Loss) -> None:
    stopped = loss.name == "stopped"
    outcome = lose(server, root, loss, launcher_like=stopped, grace=1)
    assert outcome.codes == loss.codes, str(outcome)
    message = (
        rf"polyphase: (no progress: )?rank {loss.rank} on host {HOST} \(pid \d+\) {loss.words}"
    )
    everything = "".join(outcome.outputs.values())
    assert len(re.findall(r"^polyphase: .* All ranks leave", everything, re.MULTILINE)) == 1
    assert re.search(message, everything), everything
    for rank, code in outcome.codes.items():
        if code == LOST_RANK:
            log = (root / loss.name / f"log/rank_{rank}.log").read_text(encoding="utf-8")
            assert re.search(message, log)


def test_the_stuck_rank_shows_its_stacks(root: Path, server: RankProcesses) -> None:
    """Of the runs above: the thread that hangs is in the file of the rank it hangs on."""
    data = root / "no-data/log/rank_1.stacks.txt"
    if not data.exists():  # run alone
        for loss in LOSSES:
            if loss.name in ("no-data", "gil"):
                lose(server, root, loss)
    assert re.search(r'prefetch|File ".*acts\.py", line \d+ in ', data.read_text(encoding="utf-8"))
    gil = (root / "gil/log/rank_1.stacks.txt").read_text(encoding="utf-8")
    assert gil.startswith("Timeout")
    assert re.search(r'acts\.py", line \d+ in .*\n(.*\n)+.*train_phase', gil)


def test_one_rank_alone_shows_where_it_hangs(root: Path, server: RankProcesses) -> None:
    act = ("acts:hang_at", {"target": DATA, "rank": 0, "call": 2})
    soon = "cluster.stall_timeout_s=3"
    outcome = server.run(overrides(root, "alone", *SETTINGS, soon), ranks=1, act=act)
    assert outcome.codes == {0: LOST_RANK}
    text = outcome.outputs[0]
    assert f"polyphase: no progress: rank 0 on host {HOST}" in text
    assert re.search(r'acts\.py", line \d+ in ', text.partition("polyphase: stacks of rank 0")[2])


def test_a_collective_that_gives_up_names_who_did_not_come(
    root: Path, server: RankProcesses
) -> None:
    """The group's timeout comes first: the rank that waited learns from the other's sign of life."""
    act = ("acts:hang_at", {"target": DATA, "rank": 1, "call": 2})
    timeouts = ("cluster.stall_timeout_s=60", "cluster.process_group_timeout_s=5")
    outcome = server.run(overrides(root, "late", *SETTINGS, *timeouts), act=act, timeout=45)
    assert outcome.codes == {0: LOST_RANK, 1: LOST_RANK}
    assert f"polyphase: no progress: rank 1 on host {HOST}" in outcome.outputs[0]
    log = (root / "late/log/rank_0.log").read_text(encoding="utf-8")
    assert "Timed out waiting 5000ms" in log


def test_other_hosts_learn_of_it(root: Path, server: RankProcesses) -> None:
    """Once on every host; those of host a neither read rank 3's file nor see its pid."""
    acts = [
        ("acts:on_hosts", {"hosts": ["a", "a", "b", "b"]}),
        ("acts:kill_at", {"target": FORWARD, "rank": 3, "call": 2}),
    ]
    outcome = server.run(overrides(root, "hosts", *SETTINGS), ranks=4, act=acts)
    assert outcome.codes == {**dict.fromkeys(range(3), LOST_RANK), 3: -signal.SIGKILL}
    for host in (0, 1), (2, 3):
        text = "".join(outcome.outputs[rank] for rank in host)
        assert text.count("polyphase: rank 3 on host b") == 1, text


def test_a_fault_on_all_ranks_loses_none(root: Path, server: RankProcesses) -> None:
    fault = {"error": "data_modules.faults:DataFault", "arguments": [[["here", "this", "no"]]]}
    act = ("acts:raise_at", {"target": STEP, "rank": None, **fault})
    outcome = server.run(overrides(root, "fault", *SETTINGS), act=act)
    assert outcome.codes == {0: 2, 1: 2}
    assert "All ranks leave" not in "".join(outcome.outputs.values())
