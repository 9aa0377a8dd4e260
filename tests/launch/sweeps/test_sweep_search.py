"""A search proposes, goes on, and leaves what is worse; runs are pretended."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import optuna
import pytest
from pretended import Pretended, objectives_of, pretending

import launch.sweeps.command
import launch.sweeps.search
from data_modules.faults import ConfigFault
from launch.sweeps.command import sweep
from launch.sweeps.nodes import Node
from launch.sweeps.study import JOURNAL
from trainer.sweep_record import SweepRecord, read_sweep

BETA, LR, SHAPE = "optimizer.beta2", "curriculum.phases.hard.lr", "curriculum.phases.hard.order"
SPACE = [f"{LR}=tag(log,interval(1e-5,1e-2))", f"{SHAPE}=mixed,grouped"]
STEM = "stems/mix-specialize-1"


def near(node: Node, _phases: Sequence[str]) -> float:
    """Best at a learning rate of 1e-3; the default of 1e-4 is a decade away from it."""
    return 1 - abs(math.log10(node.config.curriculum.phases["hard"].lr) + 3) / 4


@pytest.fixture
def given(small: list[str], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(launch.sweeps.command, "draw_report", lambda root: True)
    monkeypatch.setattr(launch.sweeps.search, "objectives_of", objectives_of)
    return [*small, "sweep=search", "sweep.startup_trials=3"]


def use(monkeypatch: pytest.MonkeyPatch, runner: type[Pretended]) -> type[Pretended]:
    monkeypatch.setattr(launch.sweeps.search, "Here", runner)
    return runner


def values(record: SweepRecord) -> list[dict[str, str]]:
    return [one.values for one in record.runs]


def states_in(root: Path) -> list[str]:
    """States of the trials as the journal of Optuna has them."""
    backend = optuna.storages.journal.JournalFileBackend(str(root / JOURNAL))
    storage = optuna.storages.JournalStorage(backend)
    study = optuna.load_study(study_name=root.name, storage=storage)
    return [one.state.name for one in study.get_trials()]


def test_the_default_is_trial_0_and_is_beaten(
    given: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    runner = use(monkeypatch, pretending(near))
    assert sweep([*given, *SPACE, "sweep.trials=7"]) == 0
    assert runner.started[0] == (STEM, ("mix", "specialize"))
    record = read_sweep(tmp_path / "sweep")
    default, *others = record.runs
    assert (default.name, default.is_default) == ("trial-000-default", True)
    assert default.values == {LR: "0.0001", SHAPE: "mixed"}
    assert not any(one.startswith(f"++{LR}=") for one in default.overrides)
    assert default.objectives == [pytest.approx(0.75)]
    assert [one.name for one in others] == [f"trial-{number:03d}" for number in range(1, 7)]
    for one in others:
        assert f"++{LR}={one.values[LR]}" in one.overrides
        assert one.objectives == [pytest.approx(1 - abs(math.log10(float(one.values[LR])) + 3) / 4)]
        assert one.parent == STEM
    assert max(one.objectives[0] for one in others) > 0.75
    assert states_in(tmp_path / "sweep") == ["COMPLETE"] * 7
    # more trials are asked for
    assert sweep([*given, *SPACE, "sweep.trials=8"]) == 0
    assert [folder for folder, _ in runner.started[8:]] == ["runs/trial-007"]


def test_an_interrupted_search_is_the_undisturbed_one(
    given: list[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = [*given, *SPACE, "sweep.trials=6", "sweep.startup_trials=2"]
    use(monkeypatch, pretending(near))
    straight = [f"sweep.directory={tmp_path}/straight"]
    assert sweep([*given, *straight]) == 0
    first = use(monkeypatch, pretending(near, leave_after=4))
    assert sweep(given) == 98
    assert states_in(tmp_path / "sweep") == ["COMPLETE", "COMPLETE", "RUNNING"]
    then = use(monkeypatch, pretending(near))
    assert sweep(given) == 0
    assert "runs/trial-002: goes on" in capsys.readouterr().out
    assert then.started[0] == first.started[-1], "it goes on with the run that was interrupted"
    assert values(read_sweep(tmp_path / "sweep")) == values(read_sweep(tmp_path / "straight"))


def test_trials_that_are_worse_are_left_at_a_phase_end(
    given: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    space = ["curriculum.phases.specialize.lr=tag(log,interval(1e-5,1e-2))"]

    def worth(node: Node, phases: Sequence[str]) -> float:
        # the first trials are good ones
        good = node.name < "trial-003"
        return (1.0 if good else 0.1) + len(phases) / 10

    runner = use(monkeypatch, pretending(worth))
    more = ["sweep.pruning=true", "sweep.pruning_startup=2", "sweep.trials=4"]
    assert sweep([*given, *space, *more]) == 0
    assert runner.started[:3] == [
        ("stems/mix-1", ("mix",)),
        ("runs/trial-000-default", ("mix", "specialize")),
        ("runs/trial-000-default", ("mix", "specialize", "hard")),
    ]
    assert runner.started[-1] == ("runs/trial-003", ("mix", "specialize"))
    runs = read_sweep(tmp_path / "sweep").runs
    assert [one.state for one in runs] == ["complete"] * 3 + ["pruned"]
    assert runs[0].phase_ends == [pytest.approx(1.2)]
    assert runs[0].objectives == [pytest.approx(1.3)]
    assert runs[3].phase_ends == [pytest.approx(0.3)]
    assert states_in(tmp_path / "sweep") == ["COMPLETE"] * 3 + ["PRUNED"]


def test_a_trial_that_was_killed_is_tried_again_and_a_hopeless_one_is_not(
    given: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = [*given, *SPACE, "sweep.trials=4"]
    runner = use(monkeypatch, pretending(near))
    runner.codes |= {"runs/trial-001": -9, "runs/trial-002": 3}
    assert sweep(given) == 1
    assert states_in(tmp_path / "sweep") == ["COMPLETE", "RUNNING", "FAIL", "COMPLETE"]
    again = use(monkeypatch, pretending(near))
    assert sweep(given) == 0
    assert [folder for folder, _ in again.started] == ["runs/trial-001"]
    assert states_in(tmp_path / "sweep") == ["COMPLETE", "COMPLETE", "FAIL", "COMPLETE"]


def test_another_search_is_refused(given: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    use(monkeypatch, pretending(near))
    assert sweep([*given, *SPACE, "sweep.trials=1"]) == 0
    for changed in ([SPACE[0]], [*SPACE, "sweep.seed=1"]):
        with pytest.raises(ConfigFault, match="was started with"):
            sweep([*given, *changed])


def test_the_ends_of_the_space_are_checked_first(
    given: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = use(monkeypatch, pretending(near))
    with pytest.raises(ConfigFault) as caught:
        sweep([*given, f"{BETA}=interval(0.5,1.5)", "zero=zero0,zero2"])
    told = {one.where: one.seen for one in caught.value.faults}
    assert told == {
        f"{BETA} (run beta2-1.5)": "1.5",
        "zero.stage (run zero-zero0)": "0 with precision bf16",
    }
    assert runner.started == []


def test_a_default_outside_the_space_is_still_trial_0(
    given: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    use(monkeypatch, pretending(near))
    space = [f"{LR}=tag(log,interval(1e-3,1e-2))", f"{SHAPE}=grouped,sequential"]
    assert sweep([*given, *space, "sweep.trials=2"]) == 0
    default, other = read_sweep(tmp_path / "sweep").runs
    assert (default.is_default, default.values) == (True, {})
    assert default.objectives == [pytest.approx(0.75)]
    assert set(other.values) == {LR, SHAPE}
