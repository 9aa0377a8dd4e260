"""Whole runs that meet a poisoned row: left out, gone back past, or stopped; on two ranks.

The row's embeddings are NaN wherever it appears, so its losses and everybody's gradients are.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kill_matrix import Result, overrides, result_of
from launching import composed
from rank_processes import NO_REPORT, Outcome, RankProcesses

from data_modules.samples import key_of
from trainer import exit_codes
from trainer.checkpoint.folder import checkpoints
from trainer.checkpoint.trainer_state import read_state
from trainer.run_directory import read_json_lines
from trainer.train import make_data

MORE = ("precision=fp32", "zero=zero2", "+phase=[mix]", "evaluation=none", "interference=none")
BAD_STEP = 6
STEPS = 7


@dataclass(frozen=True)
class Poison:
    """A row that one step of the phase draws; ``row_id`` is how the guard names it."""

    tokens: list[int]
    task: str
    row_id: str
    origin: str


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bad_steps")


@pytest.fixture(scope="module")
def poison(root: Path) -> Poison:
    """The last row of the bad step."""
    config = composed(overrides(root, "unused", *MORE))
    data = make_data(config, None)
    data.prepare()
    data.load()
    plan = data.plans["mix"]
    row = int(plan.step_rows(BAD_STEP - 1)[-1])
    assert (plan.rows == row).sum() == 1
    record = next(
        record
        for number, part in enumerate(data.cleaned.rows.parts)
        for record in part.records(data.cleaned.rows.kept(number))
        if key_of(record.task, record.row_id) == int(plan.store.row_keys[row])
    )
    tokens = plan.store.tokens(row)[0].tolist()
    return Poison(tokens, record.task, record.row_id, record.origin)


def life(
    server: RankProcesses, root: Path, name: str, poison: Poison | None, *more: str
) -> Outcome:
    """One start of a run."""
    acts = [NO_REPORT]
    if poison is not None:
        acts.append(("acts:poison_row", {"tokens": poison.tokens}))
    return server.run(
        [*overrides(root, name, *MORE, *more), "checkpoint.export=false"],
        ranks=2,
        act=acts,
        timeout=200,
    )


def steps_without(result: Result, number: int) -> list[dict[str, Any]]:
    return [entry for entry in result.metrics if entry["step"] != number]


@pytest.fixture(scope="module")
def left_out(server: RankProcesses, root: Path, poison: Poison) -> Path:
    """A run that skips the step."""
    outcome = life(server, root, "left_out", poison)
    assert outcome.codes == {0: 0, 1: 0}, str(outcome)
    assert f"step {BAD_STEP} (phase 'mix'), non-finite loss" in outcome.outputs[0]
    assert poison.row_id in outcome.outputs[0]
    return root / "left_out"


def test_a_poisoned_row_is_named_and_its_step_left_out(left_out: Path, poison: Poison) -> None:
    (fault,) = read_json_lines(left_out / "faults.jsonl")
    assert (fault["step"], fault["kind"], fault["action"]) == (BAD_STEP, "non-finite loss", "skip")
    (culprit,) = fault["rows"]
    assert (culprit["task"], culprit["row_id"]) == (poison.task, poison.row_id)
    assert (culprit["origin"], culprit["loss"]) == (poison.origin, "nan")
    assert fault["rows_of_step"] == 8
    entries = {one["step"]: one for one in result_of(left_out).metrics if "tokens" in one}
    assert list(entries) == list(range(1, STEPS + 1))
    assert [step for step in entries if "loss" not in entries[step]] == [BAD_STEP]
    assert entries[BAD_STEP]["skipped"] is True
    # Adam did not count it, and the run's length is what it was to be.
    state = read_state(checkpoints(left_out / "checkpoints")[0])
    assert (state.adam_step, state.global_step, state.passed_steps) == (STEPS - 1, STEPS, [])


def test_going_back_past_the_step_alone_is_the_same_to_the_last_bit(
    server: RankProcesses, root: Path, poison: Poison, left_out: Path
) -> None:
    more = ("faults=rollback", "faults.rollback_before=0")
    outcome = life(server, root, "past_one", poison, *more)
    assert outcome.codes == {0: 0, 1: 0}, str(outcome)
    got, want = result_of(root / "past_one"), result_of(left_out)
    assert got.state == want.state
    assert steps_without(got, BAD_STEP) == steps_without(want, BAD_STEP)
    assert BAD_STEP not in {entry["step"] for entry in got.metrics if "tokens" in entry}


def test_going_back_leaves_out_the_step_before_too(
    server: RankProcesses, root: Path, poison: Poison, left_out: Path
) -> None:
    outcome = life(server, root, "past_two", poison, "faults=rollback")
    assert outcome.codes == {0: 0, 1: 0}, str(outcome)
    assert "back at step 4" in outcome.outputs[0]
    run = root / "past_two"
    (fault,) = read_json_lines(run / "faults.jsonl")
    assert (fault["action"], fault["pass_over"]) == ("rollback", [BAD_STEP - 1, BAD_STEP])
    assert fault["rows"][0]["row_id"] == poison.row_id
    state = read_state(checkpoints(run / "checkpoints")[0])
    assert (state.adam_step, state.passed_steps) == (STEPS - 2, [BAD_STEP - 1, BAD_STEP])
    got = result_of(run)
    steps = [entry["step"] for entry in got.metrics if "tokens" in entry]
    assert steps == [1, 2, 3, 4, STEPS]
    assert got.metrics[:4] == result_of(left_out).metrics[:4]
    # It stays left out when the finished run is started again, and when one goes on from it.
    again = life(server, root, "past_two", poison, "faults=rollback", "limits.steps_per_phase=7")
    assert again.codes == {0: 0, 1: 0}, str(again)
    assert result_of(run) == got


def test_stopping_names_the_row_and_the_same_command_goes_on(
    server: RankProcesses, root: Path, poison: Poison
) -> None:
    outcome = life(server, root, "stopped", poison, "faults=stop")
    assert outcome.codes == dict.fromkeys((0, 1), exit_codes.TRAINING_FAULT), str(outcome)
    assert poison.row_id in outcome.outputs[0]
    assert "data.cleaning.drop" in outcome.outputs[0]
    run = root / "stopped"
    (fault,) = read_json_lines(run / "faults.jsonl")
    assert (fault["step"], fault["action"]) == (BAD_STEP, "stop")
    assert checkpoints(run / "checkpoints")[0].name == "step_000004"
    healed = life(server, root, "stopped", None, "faults=stop")
    assert healed.codes == {0: 0, 1: 0}, str(healed)
    straight = life(server, root, "straight", None, "faults=stop")
    assert straight.codes == {0: 0, 1: 0}, str(straight)
    assert result_of(run) == result_of(root / "straight")
    assert not (root / "straight/faults.jsonl").exists()


def test_one_bad_step_too_many_in_a_row_stops(server: RankProcesses, root: Path) -> None:
    nan = {"target": "trainer.engine:ZeroEngine._forward", "rank": 1, "call": 1, "calls": 1000}
    outcome = server.run(
        [*overrides(root, "hopeless", *MORE, "faults.most_skips=2"), "checkpoint.export=false"],
        ranks=2,
        act=[NO_REPORT, ("acts:nan_at", nan)],
        timeout=200,
    )
    assert outcome.codes == dict.fromkeys((0, 1), exit_codes.TRAINING_FAULT), str(outcome)
    found = read_json_lines(root / "hopeless/faults.jsonl")
    assert [one["action"] for one in found] == ["skip", "skip", "stop"]
    assert "2 bad steps in a row were skipped (faults.most_skips)" in outcome.outputs[0]


LONG = (
    "curriculum.phases.mix.steps=36",
    "curriculum.phases.mix.epochs=null",
    "limits.steps_per_phase=null",
    "global_batch_size=32",  # so that tasks come often enough to have a usual loss
)
SPIKE = 30


@pytest.mark.parametrize("action", ["skip", "rollback"])
def test_a_spike_is_treated_as_the_configuration_says(
    server: RankProcesses, root: Path, action: str
) -> None:
    name = f"spike_{action}"
    given = [
        *overrides(root, name, *MORE, *LONG, f"faults.spike={action}"),
        "checkpoint.export=false",
    ]
    spike = ("acts:spike_at", {"step": SPIKE, "factor": 4.0})
    outcome = server.run(given, ranks=2, act=[NO_REPORT, spike], timeout=200)
    assert outcome.codes == {0: 0, 1: 0}, str(outcome)
    (fault,) = read_json_lines(root / name / "faults.jsonl")
    assert (fault["step"], fault["kind"], fault["action"]) == (SPIKE, "loss spike", action)
    assert fault["rows"], "the rows of the step are named"
    entries = {
        one["step"]: one
        for one in read_json_lines(root / name / "metrics.jsonl")
        if "tokens" in one
    }
    trained = [step for step in entries if "loss" in entries[step]]
    want = {
        "skip": [step for step in range(1, 37) if step != SPIKE],
        # the checkpoint of step 28 is the last before the step that is left out with it
        "rollback": [step for step in range(1, 37) if step not in (SPIKE - 1, SPIKE)],
    }[action]
    assert trained == list(want)
