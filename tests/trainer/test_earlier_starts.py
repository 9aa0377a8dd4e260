"""What a run directory holds when a run begins in it: its own past is built upon, another run's is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.shared_checkpoint import check_all, made_config, made_state, write_checkpoint
from trainer.checkpoint.folder import LATEST, step_name
from trainer.config.schema import Config
from trainer.earlier_starts import builds_on_own, clear
from trainer.run_directory import INITIAL, RunDirectory, step_column, write_json, write_text
from trainer.start import Start, find_start


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path / "outputs" / "one")


def leave(run: RunDirectory, *steps: int) -> None:
    """What a run that is killed leaves."""
    for step in steps:
        write_text(run.metrics, "".join(f'{{"step": {one}}}\n' for one in range(1, step + 1)))
        state = made_state(made_config(run.root), step)
        state.cursors.update(run.cursors())
        write_checkpoint(run.checkpoints, state)
        write_json(run.evaluation(step_column(step)), {"run": run.root.name})


def begun(config: Config, run: RunDirectory) -> Start:
    start = find_start(config, run, check_all)
    clear(run, start, ["mix", "specialize", "hard"], [])
    return start


def steps(run: RunDirectory) -> list[str]:
    return sorted(path.name for path in run.checkpoints.glob("step_*"))


def test_going_on_keeps_what_is_there(run: RunDirectory) -> None:
    leave(run, 1, 3)
    start = begun(made_config(run.root), run)
    assert builds_on_own(run, start)
    assert steps(run) == [step_name(1), step_name(3)]
    assert run.metrics.read_text(encoding="utf-8").count("\n") == 3


def test_another_run_s_past_takes_the_place_of_the_own(run: RunDirectory, tmp_path: Path) -> None:
    leave(run, 1, 2, 3)
    write_json(run.evaluation(INITIAL), {"run": "one"})
    other = RunDirectory(tmp_path / "outputs" / "other")
    leave(other, 3)
    start = begun(made_config(run.root, resume=str(other.root)), run)
    assert not builds_on_own(run, start)
    assert steps(run) == [], "going back to one of them would be another run"
    assert [path.name for path in run.root.glob("evaluations/*")] == []
    assert not run.evaluation(INITIAL).exists()
    assert run.metrics.read_text(encoding="utf-8").count("\n") == 3
    assert steps(other) == [step_name(3)]


def test_a_checkpoint_that_was_laid_aside_in_the_run_is_its_own(
    run: RunDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave(run, 2, 3)
    aside = run.root / "aside" / step_name(2)
    aside.parent.mkdir()
    (run.checkpoints / step_name(2)).rename(aside)
    monkeypatch.chdir(run.root.parent)
    start = begun(made_config(run.root, resume=f"one/aside/{aside.name}"), run)
    assert builds_on_own(run, start), "however the path is written"
    assert run.metrics.read_text(encoding="utf-8").count("\n") == 2
    assert steps(run) == []


@pytest.mark.parametrize("resume", ["never", "another run"])
def test_checkpoints_behind_a_link_do_not_outlive_their_run(
    run: RunDirectory, tmp_path: Path, resume: str
) -> None:
    large = tmp_path / "large"
    large.mkdir()
    run.root.mkdir(parents=True)
    run.checkpoints.symlink_to(large)
    leave(run, 1, 3)
    other = RunDirectory(tmp_path / "outputs" / "other")
    leave(other, 2)
    begun(made_config(run.root, resume="never" if resume == "never" else str(other.root)), run)
    assert run.checkpoints.is_symlink()
    assert list(large.iterdir()) == [], f"{LATEST} neither"
