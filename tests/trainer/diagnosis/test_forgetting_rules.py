"""General ability, tasks of earlier phases, tasks of earlier stretches: forgotten, kept, not measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.diagnosis.made_run import SPECIAL, STEPS, MadeRun, found_by, missing_of
from trainer.diagnosis import Severity
from trainer.diagnosis.rules.forgetting import Forgetting, GeneralForgetting, TaskOrder


def test_general_ability_without_replay(tmp_path: Path) -> None:
    run = MadeRun("curriculum.phases.mix.replay=0", "curriculum.phases.specialize.replay=0")
    run.scores["mix"]["general"] = 0.1
    run.scores["specialize"]["general"] = 0.05
    (found,) = found_by(GeneralForgetting(), run, tmp_path)
    assert (found.severity, found.tasks) == (Severity.high, ["general"])
    assert found.score == pytest.approx(0.85 / 11)
    assert found.overrides == [
        "curriculum.phases.mix.replay=0.3",
        "curriculum.phases.specialize.replay=0.3",
    ]
    assert found.evidence == [
        "general: 90.0 % (85.1-93.4) after 'initial', 5.0 % (2.7-9.0) now.",
        "Most was lost in 'mix' (0%); in brackets its share of general rows.",
    ]


def test_more_replay_where_there_was_some(tmp_path: Path) -> None:
    run = MadeRun()
    run.scores["specialize"]["general"] = 0.8
    (found,) = found_by(GeneralForgetting(), run, tmp_path)
    assert found.severity is Severity.medium
    assert found.overrides == [
        "curriculum.phases.mix.replay=0.45",
        "curriculum.phases.specialize.replay=0.45",
    ]


def test_general_ability_by_its_loss(tmp_path: Path) -> None:
    run = MadeRun()
    for column in run.scores:
        run.scores[column]["general"] = None
    run.losses["specialize"]["general"] = 0.19  # more than the factor, less than the nats
    assert found_by(GeneralForgetting(), run, tmp_path) == []
    run.losses["specialize"]["general"] = 0.21
    (found,) = found_by(GeneralForgetting(), run, tmp_path)
    assert found.evidence[0] == "general: loss 0.10 nats at its best, 0.21 now."
    assert found.severity is Severity.high  # more than doubled


def test_a_fall_within_chance_is_none(tmp_path: Path) -> None:
    run = MadeRun()
    run.scores["specialize"]["general"] = 0.86
    assert found_by(GeneralForgetting(), run, tmp_path) == []


def test_without_general_tasks_nothing_is_known(tmp_path: Path) -> None:
    run = MadeRun()
    run.setting("data.tasks.general.general", False)
    assert missing_of(GeneralForgetting(), run, tmp_path) == "no task is general"
    run = MadeRun()
    run.columns = ["specialize"]
    assert missing_of(GeneralForgetting(), run, tmp_path).startswith("fewer than two evaluations")


def test_a_task_that_a_phase_leaves_out_is_forgotten(tmp_path: Path) -> None:
    run = MadeRun("curriculum.phases.specialize.tasks=[code,math]")
    run.uses["specialize"] = {task: (500, 400, 2000) for task in ("code", "math")}
    run.scores["specialize"] |= {"qa": 0.2, "style": 0.6, "json": 0.66}
    (found,) = found_by(Forgetting(), run, tmp_path)
    assert found.title == "phase 'specialize' makes the model forget"
    assert (found.severity, found.tasks) == (Severity.high, ["qa", "style"])  # json: chance
    assert found.score == pytest.approx((0.5 + 0.1) / 11)
    assert found.overrides == ["curriculum.phases.specialize.rest_share=0.25"]
    assert found.evidence[0] == "qa: 70.0 % (63.3-75.9) after 'mix', 20.0 % (15.0-26.1) now."
    assert "qa 0.0%" in found.evidence[-1]


def test_a_task_that_a_phase_trains_on_wants_a_lower_rate(tmp_path: Path) -> None:
    run = MadeRun()
    run.scores["specialize"]["qa"] = 0.5
    (found,) = found_by(Forgetting(), run, tmp_path)
    assert found.severity is Severity.medium
    assert found.overrides[0] == "curriculum.phases.specialize.lr=0.00025"


def test_what_was_learned_and_kept_is_not_forgotten(tmp_path: Path) -> None:
    assert found_by(Forgetting(), MadeRun(), tmp_path) == []
    run = MadeRun()
    run.columns = ["initial", "mix"]
    assert missing_of(Forgetting(), run, tmp_path) == "fewer than two phases were evaluated"
    run = MadeRun()
    run.generates = False
    assert missing_of(Forgetting(), run, tmp_path) == "no specialised task has a score"


def one_by_one(run: MadeRun, phase: str) -> None:
    """Give every task a tenth of a phase's steps, in order."""
    for number, entry in enumerate(run.steps[phase]):
        for task in SPECIAL:
            if task != SPECIAL[number * len(SPECIAL) // STEPS]:
                del entry[f"loss/{task}"]


def test_task_after_task_forgets(tmp_path: Path) -> None:
    run = MadeRun("curriculum.phases.specialize.order=sequential")
    one_by_one(run, "specialize")
    run.losses["specialize"] = dict.fromkeys(SPECIAL, 4.0) | {"general": 0.1}
    run.losses["specialize"] |= {"json": 0.4, "style": 0.3}
    run.scores["specialize"] = dict.fromkeys(SPECIAL, 0.0) | {"json": 0.6, "style": 0.8}
    run.scores["specialize"]["general"] = 0.9
    (found,) = found_by(TaskOrder(), run, tmp_path)
    assert found.severity is Severity.high
    assert found.everywhere
    assert set(found.tasks) == set(SPECIAL) - {"json", "style"}
    assert found.score == pytest.approx(0.8 * 0.7)
    assert found.overrides == ["curriculum.phases.specialize.order=mixed"]
    assert "8 of 10 tasks had their last row before the last fifth" in found.evidence[0]
    assert found.evidence[1] == "Its order is sequential."
    assert found.evidence[2] == "Their mean score is 0.0 %, that of the others 70.0 %."


def cycles(run: MadeRun, phase: str, on_return: float) -> None:
    """Two cycles of five steps a task; a task comes back so many nats worse and learns them again."""
    for number, entry in enumerate(run.steps[phase]):
        turn = SPECIAL[number // 5 % len(SPECIAL)]
        for task in SPECIAL:
            del entry[f"loss/{task}"]
        entry[f"loss/{turn}"] = 0.5 + (on_return if number >= 50 and number % 5 == 0 else 0.0)


def test_tasks_that_come_back_worse_than_they_left(tmp_path: Path) -> None:
    """The cycle ends where every task was seen lately, and still each is forgotten in between."""
    run = MadeRun("curriculum.phases.specialize.order=sequential")
    cycles(run, "specialize", 3.0)
    (found,) = found_by(TaskOrder(), run, tmp_path)
    assert found.severity is Severity.high
    assert set(found.tasks) == set(SPECIAL)
    assert found.evidence[0].startswith("10 of 10 tasks come back worse than they were left")
    assert "qa +3.00" in found.evidence[0]


def test_one_task_of_ten_is_not_the_order(tmp_path: Path) -> None:
    run = MadeRun("curriculum.phases.specialize.order=sequential")
    cycles(run, "specialize", 0.0)
    for number in (50, 51):  # qa, the first of its stretch, in either
        run.steps["specialize"][number]["loss/qa"] += 3.0
    assert found_by(TaskOrder(), run, tmp_path) == []


def test_rare_tasks_have_no_stretches(tmp_path: Path) -> None:
    """A task with a row here and there is forgotten for want of rows, which is another rule's matter."""
    run = MadeRun()
    for number, entry in enumerate(run.steps["specialize"]):
        for task in SPECIAL[:5]:
            if number not in (3, 20, 40):
                del entry[f"loss/{task}"]
    run.losses["specialize"] |= dict.fromkeys(SPECIAL[:5], 6.0)
    assert found_by(TaskOrder(), run, tmp_path) == []


def test_tasks_that_come_back_as_they_left(tmp_path: Path) -> None:
    run = MadeRun("curriculum.phases.specialize.order=sequential")
    cycles(run, "specialize", 0.4)
    assert found_by(TaskOrder(), run, tmp_path) == []


def test_task_after_task_without_harm_is_fine(tmp_path: Path) -> None:
    run = MadeRun("curriculum.phases.specialize.order=sequential")
    one_by_one(run, "specialize")
    run.losses["specialize"] = dict.fromkeys(SPECIAL, 0.6) | {"general": 0.1}
    assert found_by(TaskOrder(), run, tmp_path) == []


def test_a_gap_that_all_tasks_have_is_not_the_order(tmp_path: Path) -> None:
    """Over-fitted rows: the tasks trained to the end are as far from their training loss."""
    run = MadeRun()
    one_by_one(run, "specialize")
    run.losses["specialize"] = dict.fromkeys(SPECIAL, 4.0) | {"general": 0.1}
    assert found_by(TaskOrder(), run, tmp_path) == []


def test_mixed_tasks_have_no_order(tmp_path: Path) -> None:
    run = MadeRun()
    run.losses["specialize"] = dict.fromkeys(SPECIAL, 4.0) | {"general": 0.1}
    assert found_by(TaskOrder(), run, tmp_path) == []
    run.columns = ["initial"]
    assert missing_of(TaskOrder(), run, tmp_path) == "no evaluation at a phase end"
