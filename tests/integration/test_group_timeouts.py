"""Every process group has the configured timeout, also those that DeepSpeed makes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from launching import composed
from rank_processes import RankProcesses
from test_run import overrides

SECONDS = 77.0
WRITE = "acts:write_group_timeouts"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("timeouts")
    composed(overrides(root, "unused"))  # generates the data once
    return root


def timeouts(server: RankProcesses, root: Path, stage: int, *acts: tuple[str, dict]) -> list[float]:
    """Of all groups on both ranks, once the engine is built; nothing is trained."""
    write = (WRITE, {"target": "trainer.train:Run.all_phases", "folder": str(root)})
    settings = (f"zero.stage={stage}", "+phase=mix", f"cluster.process_group_timeout_s={SECONDS}")
    outcome = server.run(overrides(root, f"stage{stage}", *settings), act=[write, *acts])
    assert outcome.codes == {0: 0, 1: 0}, str(outcome)
    files = [root / f"timeouts_{rank}.json" for rank in (0, 1)]
    found = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    for file in files:
        file.unlink()
    assert len(found[0]) == len(found[1])
    return found[0] + found[1]


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_every_group_has_it(server: RankProcesses, root: Path, stage: int) -> None:
    found = timeouts(server, root, stage)
    assert len(found) >= 4  # DeepSpeed has made one at least, on each rank
    assert set(found) == {SECONDS}


def test_deepspeed_alone_would_wait_for_half_an_hour(server: RankProcesses, root: Path) -> None:
    skip = ("acts:skip", {"target": "trainer.watchdog:set_group_timeouts"})
    assert set(timeouts(server, root, 2, skip)) == {SECONDS, 1800.0}
