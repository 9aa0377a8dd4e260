"""Starved tasks, a crowd, rows learned by heart, waste: ill, healthy, not measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.diagnosis.made_run import GENERAL, PHASES, SPECIAL, MadeRun, found_by, missing_of
from trainer.diagnosis import Severity
from trainer.diagnosis.rules.mixture import CrowdingOut, Imbalance, Overfitting, WastedCapacity

RARE = SPECIAL[5:]
NATURAL = tuple(f"balance@curriculum.phases.{phase}.balance=natural" for phase in PHASES)
CAPS = [f"balance@curriculum.phases.{phase}.balance=caps" for phase in PHASES]


def drawn(run: MadeRun, rows: dict[str, int], tokens: int = 4) -> None:
    """Give tasks so many rows in each phase, a row so many tokens."""
    for phase in PHASES:
        for task, count in rows.items():
            run.uses[phase][task] = (count, count, count * tokens)


def scored(run: MadeRun, values: dict[str, float]) -> None:
    run.scores["specialize"] |= values


def test_rare_tasks_are_starved(tmp_path: Path) -> None:
    run = MadeRun(*NATURAL)
    drawn(run, dict.fromkeys(RARE, 20))
    scored(run, dict.fromkeys(RARE, 0.2))
    (found,) = found_by(Imbalance(), run, tmp_path)
    assert found.severity is Severity.high
    assert set(found.tasks) == set(RARE)
    assert found.score == pytest.approx(5 * 0.65 / 11)
    assert found.overrides == CAPS
    assert "1,000 rows, 25 times as many as sorting (40)" in found.evidence[0]
    assert "mean score of 20.0 %" in found.evidence[1]
    assert found_by(CrowdingOut(), run, tmp_path) == []


def test_caps_that_left_tasks_apart_give_way_to_temperature(tmp_path: Path) -> None:
    run = MadeRun()
    drawn(run, dict.fromkeys(RARE, 20))
    scored(run, dict.fromkeys(RARE, 0.2))
    (found,) = found_by(Imbalance(), run, tmp_path)
    assert found.overrides == [one.replace("caps", "temperature") for one in CAPS]


@pytest.mark.parametrize(
    ("rows", "value"),
    [
        (20, 0.84),  # rare, but as good as the others within chance
        (110, 0.2),  # worse, but not that rare
    ],
)
def test_no_starvation(tmp_path: Path, rows: int, value: float) -> None:
    run = MadeRun()
    drawn(run, dict.fromkeys(RARE, rows))
    scored(run, dict.fromkeys(RARE, value))
    assert found_by(Imbalance(), run, tmp_path) == []


def test_without_scores_nothing_is_known_of_shares(tmp_path: Path) -> None:
    run = MadeRun()
    run.generates = False
    for rule in (Imbalance(), CrowdingOut()):
        assert missing_of(rule, run, tmp_path) == "fewer than three trained tasks have a score"


def test_one_task_crowds_the_others_out(tmp_path: Path) -> None:
    run = MadeRun(*NATURAL)
    drawn(run, {"qa": 6000})
    scored(run, dict.fromkeys(SPECIAL, 0.3) | {"qa": 0.95})
    run.matrix["conflict"] = {task: {task: 0.8, "qa": 0.2} for task in SPECIAL}
    run.matrix["conflict"]["qa"] = {"qa": 1.0}
    (found,) = found_by(CrowdingOut(), run, tmp_path)
    assert found.severity is Severity.high
    assert found.title == "qa crowds the other tasks out"
    assert found.tasks == ["qa", *SPECIAL[1:]]
    assert found.overrides == CAPS
    assert found.evidence[0].startswith("qa has 57% of the specialised tasks' rows over the run")
    assert "conflict 20.0%" in found.evidence[2]
    assert "crosstalk" in found.explains
    assert found_by(Imbalance(), run, tmp_path) == []  # the others are level among themselves


def test_a_crowd_of_tokens_wants_another_normalisation(tmp_path: Path) -> None:
    run = MadeRun()
    for phase in PHASES:
        run.uses[phase]["json"] = (500, 400, 30000)
    scored(run, dict.fromkeys(SPECIAL, 0.3) | {"json": 0.95})
    (found,) = found_by(CrowdingOut(), run, tmp_path)
    assert "json has 62% of the specialised tasks' answer tokens" in found.evidence[0]
    assert found.overrides == [
        f"curriculum.phases.{phase}.loss_normalization=task" for phase in PHASES
    ]


def test_a_large_task_that_harms_no_other_is_no_crowd(tmp_path: Path) -> None:
    run = MadeRun()
    drawn(run, {"qa": 6000})
    assert found_by(CrowdingOut(), run, tmp_path) == []
    assert found_by(CrowdingOut(), MadeRun(), tmp_path) == []


def test_few_rows_learned_by_heart(tmp_path: Path) -> None:
    run = MadeRun()
    for phase in PHASES:
        run.uses[phase]["translation"] = (600, 20, 2400)
    run.losses["mix"]["translation"] = 1.5
    run.losses["specialize"]["translation"] = 2.5
    run.trained["translation"] = 0.01
    scored(run, {"translation": 0.25})
    (found,) = found_by(Overfitting(), run, tmp_path)
    assert (found.severity, found.tasks) == (Severity.high, ["translation"])
    assert found.score == pytest.approx(0.6 / 11)
    assert found.evidence == [
        "translation: 1,200 rows from 20, each about 60 times; loss 0.01 on training rows, 2.50 on "
        "evaluation rows, up from 1.50."
    ]
    assert found.overrides == [
        one
        for phase in PHASES
        for one in (
            f"balance@curriculum.phases.{phase}.balance=unimax",
            f"curriculum.phases.{phase}.balance.max_repeats=4",
        )
    ]


def test_a_gap_without_a_rise_is_a_lesser_case(tmp_path: Path) -> None:
    run = MadeRun()
    run.uses["mix"]["translation"] = (600, 20, 2400)
    run.uses["specialize"]["translation"] = (60, 20, 240)
    run.losses["mix"]["translation"] = run.losses["specialize"]["translation"] = 2.5
    run.trained["translation"] = 0.01
    (found,) = found_by(Overfitting(), run, tmp_path)
    assert found.severity is Severity.medium
    assert len(found.overrides) == 2  # three repeats a phase are free


@pytest.mark.parametrize(
    ("rows", "train_loss", "others"),
    [
        (100, 0.01, 0.25),  # ten repeats
        (600, 0.9, 0.25),  # no gap
        (600, 0.01, 0.01),  # as large a gap where rows came once
    ],
)
def test_no_over_fitting(tmp_path: Path, rows: int, train_loss: float, others: float) -> None:
    run = MadeRun()
    for phase in PHASES:
        run.uses[phase]["translation"] = (rows, 20, 4 * rows)
    if others < 0.25:
        run.losses["specialize"] |= dict.fromkeys(SPECIAL, 1.0)
    run.trained |= dict.fromkeys(SPECIAL, others)
    run.losses["specialize"]["translation"] = 1.0
    run.trained["translation"] = train_loss
    assert found_by(Overfitting(), run, tmp_path) == []


def test_without_training_losses_nothing_is_known_of_over_fitting(tmp_path: Path) -> None:
    run = MadeRun()
    run.trained = dict.fromkeys((*SPECIAL, GENERAL))
    assert "evaluation.train_rows" in missing_of(Overfitting(), run, tmp_path)


def test_a_phase_that_changes_nothing_is_waste(tmp_path: Path) -> None:
    run = MadeRun()
    run.scores["specialize"] = dict(run.scores["mix"])
    run.losses["specialize"] = dict(run.losses["mix"])
    (found,) = found_by(WastedCapacity(), run, tmp_path)
    assert found.severity is Severity.low
    assert found.title == "phase 'specialize' changes nothing"
    assert (
        "50% of the steps; the mean score of its tasks changes by +0.0 points" in found.evidence[0]
    )
    assert found.overrides == [
        "curriculum.phases.specialize.steps=50",
        "curriculum.phases.specialize.epochs=null",
    ]


def test_a_phase_that_still_lowers_the_loss_is_none(tmp_path: Path) -> None:
    run = MadeRun()
    run.scores["specialize"] = dict(run.scores["mix"])
    assert found_by(WastedCapacity(), run, tmp_path) == []


def test_rows_spent_on_what_is_learned(tmp_path: Path) -> None:
    run = MadeRun(*NATURAL)
    run.scores["mix"]["qa"] = 1.0
    assert found_by(WastedCapacity(), run, tmp_path) == []  # a level share
    drawn(run, {"qa": 1500})
    (found,) = found_by(WastedCapacity(), run, tmp_path)
    assert found.tasks == ["qa"]
    assert "takes 25% of the rows" in found.evidence[0]
    assert found.overrides == CAPS


def test_padding(tmp_path: Path) -> None:
    run = MadeRun()
    run.efficiency = 0.4
    (found,) = found_by(WastedCapacity(), run, tmp_path)
    assert found.overrides == ["data.packing=true"]
    assert "40% in 'mix'" in found.evidence[0]
    run.setting("data.packing", True)
    assert found_by(WastedCapacity(), run, tmp_path) == []
