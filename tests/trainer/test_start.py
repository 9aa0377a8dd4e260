"""Which weights a run starts from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.shared_checkpoint import made_config, made_state, write_checkpoint
from trainer.config.schema import Config, CurriculumConfig, Init, ModelConfig, PhaseConfig
from trainer.run_directory import RunDirectory, write_json
from trainer.start import Start, find_start


def config(*select: str, **fields: Any) -> Config:
    phases = {name: PhaseConfig() for name in ("mix", "specialize", "hard")}
    made = Config(model=ModelConfig(path="models/qwen"), **fields)
    made.curriculum = CurriculumConfig(phases=phases, select=dict.fromkeys(select))
    return made


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


def finish(run: RunDirectory, phase: str, last_step: int, export: bool = True) -> None:
    write_json(run.phase(phase) / "phase.json", {"phase": phase, "last_step": last_step})
    if export:
        run.export(phase).mkdir(parents=True)


def test_the_first_phase_starts_from_the_model(run: RunDirectory) -> None:
    finish(run, "mix", 10)  # a result of its own does not matter
    for one in (config(), config("mix"), config("mix", "hard")):
        words = "Starts from the model itself (models/qwen)."
        assert find_start(one, run) == Start(None, 0, (), words)


def test_random_weights_are_said_so(run: RunDirectory) -> None:
    one = config()
    one.model.init = Init.random
    assert find_start(one, run).words == "Starts from the model itself (random weights)."


def test_a_later_phase_continues_behind_the_one_before(run: RunDirectory) -> None:
    finish(run, "mix", 10)
    finish(run, "specialize", 25)
    start = find_start(config("hard"), run)
    assert start.init_from == str(run.export("specialize"))
    assert start.steps_before == 25
    assert start.earlier_phases == ("mix", "specialize")
    assert "Starts from phase 'specialize'" in start.words
    assert "step 25" in start.words
    assert "the optimizer state starts afresh" in start.words


def test_it_is_the_phase_just_before_in_the_curriculum(run: RunDirectory) -> None:
    # mix is finished, specialize is not: hard must not quietly start from mix.
    finish(run, "mix", 10)
    start = find_start(config("hard"), run)
    assert (start.init_from, start.steps_before, start.earlier_phases) == (None, 0, ())
    assert f"no finished phase 'specialize' in {run.root}" in start.words


def test_earlier_phases_are_only_those_that_were_trained_here(run: RunDirectory) -> None:
    finish(run, "specialize", 7)
    start = find_start(config("hard"), run)
    assert (start.steps_before, start.earlier_phases) == (7, ("specialize",))


def test_without_an_export_there_is_nothing_to_start_from(run: RunDirectory) -> None:
    finish(run, "mix", 10, export=False)
    start = find_start(config("specialize"), run)
    assert start.init_from is None
    assert "no finished phase 'mix'" in start.words


def test_the_first_selected_phase_decides(run: RunDirectory) -> None:
    finish(run, "mix", 10)
    start = find_start(config("specialize", "mix"), run)
    assert (start.init_from, start.earlier_phases) == (str(run.export("mix")), ("mix",))


def test_init_from_wins(run: RunDirectory) -> None:
    finish(run, "mix", 10)
    start = find_start(config("specialize", init_from="elsewhere/hf"), run)
    assert start == Start("elsewhere/hf", 0, (), "Starts from init_from=elsewhere/hf.")


def test_a_checkpoint_wins(run: RunDirectory) -> None:
    finish(run, "mix", 4)
    one = made_config(run.root)
    write_checkpoint(run.checkpoints, made_state(one, 6))
    start = find_start(one, run)
    assert (start.steps_done, start.steps_before, start.continues) == (6, 0, True)
    assert (start.init_from, start.earlier_phases) == (None, ())
    assert (
        start.words
        == f"Resumes behind step 6 (2 of 4 steps of phase 'specialize') from {run.checkpoints}/step_000006."
    )
    start = find_start(made_config(run.root, "specialize"), run)
    assert (start.steps_done, start.steps_before, start.earlier_phases) == (6, 4, ("mix",))


def test_a_resumed_run_that_began_with_weights_alone_begins_there_again(
    run: RunDirectory, tmp_path: Path
) -> None:
    """Its steps are numbered behind those, and adapters belong to the weights that it began with."""
    finish(run, "mix", 10)
    finish(run, "specialize", 25)
    one = made_config(run.root, "hard")
    write_checkpoint(run.checkpoints, made_state(one, 27, steps_before=25))
    start = find_start(one, run)
    assert (start.steps_done, start.steps_before) == (27, 25)
    assert start.earlier_phases == ("mix", "specialize")
    assert start.init_from == str(run.export("specialize"))
    # Continued elsewhere, the weights are still those of the first run.
    other = RunDirectory(tmp_path / "other")
    one.resume, one.output_dir = str(run.root), str(other.root)
    start = find_start(one, other)
    assert start.init_from == str(run.export("specialize"))
    assert start.earlier_phases == ("mix", "specialize")
    # A named model stays the one.
    named = made_config(run.root, "hard", init_from="a/hf")
    write_checkpoint(run.checkpoints, made_state(named, 28, steps_before=25))
    assert find_start(named, run).init_from == "a/hf"
