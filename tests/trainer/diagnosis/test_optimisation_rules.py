"""Learning rates at a switch, divergence and phases that are too short: ill, healthy, not measured."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.trainer.diagnosis.made_run import SPECIAL, STEPS, MadeRun, found_by, missing_of
from trainer.diagnosis import Severity
from trainer.diagnosis.rules.optimisation import Divergence, RateAtSwitch, SmallPhase


def jumped(run: MadeRun, nats: float, steps: int) -> None:
    """Let every task's loss rise for the first steps of the second phase."""
    for entry in run.steps["specialize"][:steps]:
        for name in entry:
            if name.startswith("loss"):
                entry[name] += nats


def test_a_jump_that_stays_is_severe(tmp_path: Path) -> None:
    run = MadeRun("curriculum.phases.specialize.lr=0.05")
    jumped(run, 3.0, STEPS)
    run.steps["specialize"][2]["grad_norm"] = 40.0
    run.scores["specialize"] = dict.fromkeys(SPECIAL, 0.3) | {"general": 0.9}
    (found,) = found_by(RateAtSwitch(), run, tmp_path)
    assert found.severity is Severity.high
    assert found.score == pytest.approx(0.4)
    assert found.everywhere
    assert {"crosstalk", "forgetting", "divergence"} <= set(found.explains)
    # half of the rate before
    assert found.overrides == [
        "curriculum.phases.specialize.lr=0.0005",
        "curriculum.phases.specialize.schedule.warmup_ratio=0.05",
    ]
    assert "rises by 2." in found.evidence[0]
    assert "0.001 at its peak in 'mix', 0.05 in 'specialize'" in found.evidence[1]
    assert "reaches 40" in found.evidence[2]
    assert "-40.0 points" in found.evidence[-1]


def test_a_rate_that_was_not_raised_is_cut_to_a_third(tmp_path: Path) -> None:
    run = MadeRun()
    jumped(run, 3.0, STEPS)
    (found,) = found_by(RateAtSwitch(), run, tmp_path)
    assert found.overrides[0] == "curriculum.phases.specialize.lr=0.00017"
    assert found.severity is Severity.high  # it stays, whatever the scores say


def test_a_jump_that_costs_nothing_is_none(tmp_path: Path) -> None:
    run = MadeRun()
    jumped(run, 3.0, 20)
    assert found_by(RateAtSwitch(), run, tmp_path) == []


def test_a_jump_within_what_batches_vary_is_none(tmp_path: Path) -> None:
    run = MadeRun()
    for phase in run.steps.values():
        for number, entry in enumerate(phase):
            for task in SPECIAL:
                entry[f"loss/{task}"] += 3.0 * (-1) ** (number + len(task))
    jumped(run, 0.3, STEPS)
    assert found_by(RateAtSwitch(), run, tmp_path) == []


def test_other_prompts_are_another_loss(tmp_path: Path) -> None:
    run = MadeRun("curriculum.phases.specialize.prompts.cue_share=0.5")
    jumped(run, 3.0, STEPS)
    assert found_by(RateAtSwitch(), run, tmp_path) == []


def test_few_tasks_in_a_window_are_no_jump(tmp_path: Path) -> None:
    """Blocks of one task: four of ten tasks in a window say nothing about the model."""
    run = MadeRun()
    jumped(run, 3.0, STEPS)
    for entry in run.steps["specialize"]:
        for task in SPECIAL[4:]:
            del entry[f"loss/{task}"]
    assert found_by(RateAtSwitch(), run, tmp_path) == []


def test_one_phase_has_no_switch(tmp_path: Path) -> None:
    run = MadeRun()
    del run.uses["specialize"]
    assert missing_of(RateAtSwitch(), run, tmp_path) == "the run has one phase"


def test_a_loss_that_is_no_number_diverged(tmp_path: Path) -> None:
    run = MadeRun()
    for entry in run.steps["specialize"][60:]:
        entry["loss"] = math.nan
    run.steps["specialize"][50]["grad_norm"] = math.inf
    (found,) = found_by(Divergence(), run, tmp_path)
    assert (found.severity, found.score) == (Severity.high, 1.0)
    assert "not finite in 41 of 100 steps, first in step 151" in found.evidence[0]
    assert found.overrides[0] == "curriculum.phases.specialize.lr=0.00017"


def test_a_loss_that_ends_above_its_beginning_diverged(tmp_path: Path) -> None:
    run = MadeRun()
    for number, entry in enumerate(run.steps["mix"]):
        for task in SPECIAL[:6]:
            entry[f"loss/{task}"] = 0.5 + 0.01 * number
    (found,) = found_by(Divergence(), run, tmp_path)
    assert "6 of 10 tasks" in found.evidence[0]
    assert "qa 0.52 -> 1.47" in found.evidence[0]
    for entry in run.steps["mix"]:  # half of the tasks is no divergence
        entry["loss/sorting"] = 0.5
    assert found_by(Divergence(), run, tmp_path) == []


def test_a_falling_loss_does_not_diverge(tmp_path: Path) -> None:
    assert found_by(Divergence(), MadeRun(), tmp_path) == []


def test_without_steps_nothing_is_known(tmp_path: Path) -> None:
    run = MadeRun()
    run.steps = {"mix": [], "specialize": []}
    assert missing_of(Divergence(), run, tmp_path) == "no step is in metrics.jsonl"
    assert found_by(RateAtSwitch(), run, tmp_path) == []


def test_a_phase_of_three_steps_is_too_short(tmp_path: Path) -> None:
    run = MadeRun(
        "curriculum.phases.specialize.epochs=null", "curriculum.phases.specialize.steps=3"
    )
    run.lengths["specialize"] = 3
    run.uses["specialize"] = {task: (6 if task == "qa" else 9, 9, 30) for task in SPECIAL}
    (found,) = found_by(SmallPhase(), run, tmp_path)
    assert found.severity is Severity.high
    assert found.title == "phase 'specialize' is too short to do its work"
    assert found.evidence == [
        "It has 3 steps, all of them warm-up (3 are asked for).",
        "It has 3 steps, but beta2 0.98 averages squared gradients over about 50: their size is the last "
        "phase's for most of it.",
        "It draws fewer than 8 rows of 1 of its tasks (qa 6).",
        "It is 2.9% of the run's steps.",
    ]
    assert found.overrides == ["curriculum.phases.specialize.steps=100"]
    assert not found.everywhere


def test_a_phase_below_the_memory_of_beta2_is_a_lesser_case(tmp_path: Path) -> None:
    run = MadeRun()
    run.lengths["specialize"] = 40
    (found,) = found_by(SmallPhase(), run, tmp_path)
    assert found.severity is Severity.medium
    assert found.overrides == [
        "curriculum.phases.specialize.steps=100",
        "curriculum.phases.specialize.epochs=null",
    ]
    run.setting("optimizer.beta2", 0.95)  # remembers 20 steps
    assert found_by(SmallPhase(), run, tmp_path) == []


def test_a_limit_of_steps_is_taken_off(tmp_path: Path) -> None:
    run = MadeRun("limits.steps_per_phase=4")
    run.lengths = {"mix": 4, "specialize": 4}
    run.warmup = {"mix": 4, "specialize": 0}
    mix, specialize = found_by(SmallPhase(), run, tmp_path)
    assert mix.overrides[-1] == "limits.steps_per_phase=null"
    assert mix.evidence[0] == "It has 4 steps, all of them warm-up (4 are asked for)."
    assert mix.everywhere
    assert specialize.everywhere  # where every phase is too short, all else follows from it


def test_long_phases_and_fresh_moments_are_fine(tmp_path: Path) -> None:
    assert found_by(SmallPhase(), MadeRun(), tmp_path) == []
    run = MadeRun("curriculum.phases.specialize.optimizer_state=reset")
    run.lengths["specialize"] = 40
    assert found_by(SmallPhase(), run, tmp_path) == []
