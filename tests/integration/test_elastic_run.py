"""A run that moves between world sizes, ZeRO stages and shared sequences trains the same rows alike."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import pytest
from kill_matrix import overrides
from launching import composed, steps_of
from rank_processes import NO_REPORT, Outcome, RankProcesses

from trainer.checkpoint.folder import checkpoints
from trainer.checkpoint.trainer_state import read_state

STEP = "trainer.engine:ZeroEngine.train_step"
# (ranks, ZeRO stage, ranks that share sequences, killed at this call of train_step)
COURSES = {
    "ranks": [(2, 2, 1, 6), (1, 2, 1, 7), (4, 2, 1, None)],
    "stages": [(2, 2, 1, 6), (2, 3, 1, 7), (2, 0, 1, None)],
    "sequences": [(1, 2, 1, 6), (2, 3, 2, 7), (4, 2, 2, None)],
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("elastic")
    composed(overrides(made, "unused"))  # generates the data once
    return made


def life(
    server: RankProcesses,
    root: Path,
    name: str,
    ranks: int,
    stage: int,
    parts: int,
    killed: int | None,
    start: int,
) -> Outcome:
    """One start of a run; every rank logs the rows that it trains on."""
    acts = [NO_REPORT, ("acts:log_rows", {"path": str(root / f"{name}-{start}")})]
    if killed is not None:
        acts.append(("acts:kill_at", {"target": STEP, "rank": 0, "call": killed}))
    more = ("precision=fp32", "evaluation=none", "interference=none", "checkpoint.export=false")
    layout = (f"zero.stage={stage}", f"sequence_parallel_size={parts}")
    return server.run(
        overrides(root, name, *more, *layout),
        ranks=ranks,
        act=acts,
        timeout=300,
        launcher_like=True,
        grace=1,
    )


def rows_by_step(
    root: Path, name: str, start: int, ranks: int, parts: int = 1
) -> dict[tuple[str, int], list[int]]:
    """The rows of every step, over all ranks of one start; those that share sequences have the same."""
    found: dict[tuple[str, int], list[int]] = defaultdict(list)
    for rank in range(0, ranks, parts):
        lines = (root / f"{name}-{start}.rank{rank}").read_text(encoding="utf-8").splitlines()
        for entry in map(json.loads, lines):
            found[entry["phase"], entry["step"]] += entry["rows"]
    return {key: sorted(rows) for key, rows in found.items()}


@pytest.fixture(scope="module")
def straight(root: Path, server: RankProcesses) -> Path:
    outcome = life(server, root, "straight", 2, 2, 1, None, 0)
    assert outcome.codes == {0: 0, 1: 0}, str(outcome)
    return root / "straight"


@pytest.mark.parametrize("course", COURSES)
def test_losses_and_rows_are_those_of_the_straight_run(
    root: Path, server: RankProcesses, straight: Path, course: str
) -> None:
    want_rows = rows_by_step(root, "straight", 0, 2)
    assert len(want_rows) == 21
    starts = []
    for start, (ranks, stage, parts, killed) in enumerate(COURSES[course]):
        outcome = life(server, root, course, ranks, stage, parts, killed, start)
        assert outcome.codes[0] == (0 if killed is None else -9), str(outcome)
        starts.append([line for line in outcome.outputs[0].splitlines() if "Resumes" in line])
        # The last of a killed start may be half made, as batches are made ahead.
        got_rows = rows_by_step(root, course, start, ranks, parts)
        steps = sorted(got_rows, key=list(want_rows).index)
        for key in steps if killed is None else steps[:-3]:
            assert got_rows[key] == want_rows[key], (course, start, key)
    assert [len(one) for one in starts] == [0, *[1] * (len(starts) - 1)]  # it did continue
    got, want = steps_of(root / course), steps_of(straight)
    assert [one["step"] for one in got] == [one["step"] for one in want] == list(range(1, 22))
    for one, other in zip(got, want, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-5)
        assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=1e-3)
        same = ("lr", "tokens", "phase", *(key for key in other if key.startswith("tokens/")))
        assert {key: one[key] for key in same} == {key: other[key] for key in same}
    state = read_state(checkpoints(root / course / "checkpoints")[0])
    assert (state.world_size, state.zero_stage) == COURSES[course][-1][:2]
    assert state.adam_step == 21
