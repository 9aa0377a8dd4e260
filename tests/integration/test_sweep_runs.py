"""Sweeps for real: phases that runs share are trained once, and no run comes out different for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kill_matrix import overrides, result_of
from rank_processes import Launched, RankProcesses

import launch.sweeps.grid
import launch.sweeps.search
from launch.submission.composed import compose_config
from launch.sweeps.command import sweep
from launch.sweeps.here import Ended, Here
from launch.sweeps.nodes import Node
from trainer.sweep_record import read_sweep

SMALL = (
    *("limits.steps_per_phase=3", "evaluation.every_steps=null", "interference=none"),
    *("checkpoint.every_steps=null", "precision=fp32", "+phase=[mix,hard]"),
    "model.architecture.attention_dropout=0.1",
)
LR = "curriculum.phases.hard.lr"
ORDER = "curriculum.phases.hard.order"


class Served(Here):
    """Trains in processes of the rank server, which has imported everything already."""

    server: RankProcesses
    started: list[str]

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once)
        self._launched: list[tuple[Node, Launched]] = []

    @property
    def has_room(self) -> bool:
        return len(self._launched) < self.at_once

    @property
    def is_idle(self) -> bool:
        return not self._launched

    def start(self, node: Node) -> None:
        self.started.append(node.folder)
        given = [one.lstrip("+") if one.startswith("++") else one for one in node.overrides]
        self._launched.append((node, self.server.start(given, ranks=1)))

    def wait(self, _leaves: Callable[[], bool] = lambda: False) -> list[Ended]:
        if not self._launched:
            return []
        node, launched = self._launched.pop(0)
        try:
            outcome = launched.wait(300)
        finally:
            launched.kill_all()
        assert outcome.codes == {0: 0}, str(outcome)
        return [Ended(node, outcome.codes[0], 1.0)]

    @contextmanager
    def passing_on(self) -> Iterator[None]:
        yield


@pytest.fixture
def served(server: RankProcesses, monkeypatch: pytest.MonkeyPatch) -> type[Served]:
    found = type("One", (Served,), {"server": server, "started": []})
    monkeypatch.setattr(launch.sweeps.grid, "Here", found)
    monkeypatch.setattr(launch.sweeps.search, "Here", found)
    return found


def whole(server: RankProcesses, root: Path, name: str, *more: str) -> Path:
    """The same run by itself, all its phases in one go."""
    outcome = server.run(overrides(root, name, *SMALL, *more), ranks=1, timeout=300)
    assert outcome.codes == {0: 0}, str(outcome)
    return root / name


def given(root: Path) -> list[str]:
    found = [one for one in overrides(root, "unused", *SMALL) if not one.startswith("output_dir=")]
    compose_config(found)  # generates the data
    return [*found, f"sweep.directory={root}/sweep"]


def test_runs_of_a_grid_are_those_that_train_everything_themselves(
    tmp_path: Path, server: RankProcesses, served: type[Served], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*given(tmp_path), f"{LR}=1e-3,2e-3", f"{ORDER}=mixed,grouped"]
    assert sweep(command) == 0
    runs = [
        f"runs/lr-{lr}-order-{order}" for lr in ("0.001", "0.002") for order in ("mixed", "grouped")
    ]
    assert served.started == ["stems/mix-1", *runs]
    root = tmp_path / "sweep"
    alone = whole(server, tmp_path, "alone", f"{LR}=2e-3", f"{ORDER}=grouped")
    assert result_of(root / runs[3]) == result_of(alone)
    assert result_of(root / runs[0]).state != result_of(alone).state, "the values are not idle"
    # tokenised once: all of them found it in the shared cache
    stores = list((tmp_path / "cache/samples").glob("*"))
    assert len(stores) == 1, stores
    page = (root / "sweep.html").read_text(encoding="utf-8")
    assert "4 of 4 runs of a grid have figures" in page
    assert (root / "sweep.png").is_file()
    served.started.clear()
    (root / runs[1] / "report.html").unlink()
    assert sweep(command) == 0
    assert served.started == [runs[1]]
    assert "4 of 4 runs are finished" in capsys.readouterr().out


def test_a_trial_that_is_trained_phase_by_phase_is_the_whole_run(
    tmp_path: Path, server: RankProcesses, served: type[Served]
) -> None:
    space = ["curriculum.phases.mix.lr=tag(log,interval(1e-4,1e-2))", "sweep=search"]
    more = ["sweep.trials=2", "sweep.objectives=[loss]", "sweep.pruning=true", "sweep.at_once=2"]
    assert sweep([*given(tmp_path), *space, *more, "cluster.threads_per_rank=1"]) == 0
    assert sorted(served.started) == ["runs/trial-000-default"] * 2 + ["runs/trial-001"] * 2
    trial = read_sweep(tmp_path / "sweep").runs[1]
    (lr,) = trial.values.values()
    alone = whole(server, tmp_path, "alone", f"curriculum.phases.mix.lr={lr}")
    assert result_of(tmp_path / "sweep" / trial.folder) == result_of(alone)
    assert trial.state == "complete"
    assert len(trial.phase_ends) == 1
    assert trial.objectives != trial.phase_ends
