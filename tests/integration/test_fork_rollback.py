"""A run that goes on from another run's checkpoint, and meets a bad step before it has one of its own."""

from __future__ import annotations

from pathlib import Path

from kill_matrix import overrides
from launching import composed, metrics_of
from rank_processes import NO_REPORT, Act, RankProcesses

SMALL = (
    *("+phase=mix", "limits.steps_per_phase=5", "evaluation=none", "interference=none"),
    *("checkpoint.export=false", "faults=rollback", "faults.rollback_before=0"),
)
STEP = "trainer.engine:ZeroEngine.train_step"
FORWARD = "trainer.engine:ZeroEngine._forward"


def test_it_goes_back_to_where_it_began(tmp_path: Path, server: RankProcesses) -> None:
    composed(overrides(tmp_path, "unused"))  # generates the data once
    killed: Act = ("acts:kill_at", {"target": STEP, "rank": 0, "call": 4})
    bad: Act = ("acts:nan_at", {"target": FORWARD, "rank": 0, "call": 1})
    server.run(overrides(tmp_path, "one", *SMALL), ranks=1, act=[NO_REPORT, killed])
    assert (tmp_path / "one/checkpoints/step_000002").is_dir()
    given = overrides(tmp_path, "fork", *SMALL, f"resume={tmp_path}/one")
    outcome = server.run(given, ranks=1, act=[NO_REPORT, bad], timeout=120)
    assert outcome.codes == {0: 0}, str(outcome)
    assert "back at step 2" in outcome.outputs[0]
    trained = [one["step"] for one in metrics_of(tmp_path / "fork") if "loss" in one]
    assert trained == [1, 2, 4, 5]
