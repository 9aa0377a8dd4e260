"""Crosstalk pairs, tags, and the advice on weak tasks: ill, healthy, not measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.diagnosis.made_run import PHASES, SPECIAL, MadeRun, found_by, missing_of
from trainer.diagnosis import Severity
from trainer.diagnosis.rules.leaks import CrosstalkPairs, RoutingOrSkill, TagsNeeded

UNTAGGED = ("boundary=none",)


def in_phases(setting: str) -> list[str]:
    return [f"curriculum.phases.{phase}.{setting}" for phase in PHASES]


def test_a_pair_that_leaks_on_another_tasks_cue(tmp_path: Path) -> None:
    run = MadeRun()
    run.matrix["conflict"]["code"] = {"code": 0.4, "qa": 0.6}
    run.matrix["conflict"]["math"] = {"math": 0.92, "qa": 0.08}  # certainly above 5 %? No.
    (found,) = found_by(CrosstalkPairs(), run, tmp_path)
    assert found.severity is Severity.high  # the pair is
    assert found.title == "code is answered like qa"
    assert found.tasks == ["code"]
    assert found.score == pytest.approx(0.068 / 2)  # the mean of two sets; no_tag apart
    assert found.overrides == in_phases("prompts.cue_share=0.2")
    assert found.evidence[0].startswith(
        "6.8% of the answers to requests with another task's cue show another task's behaviour"
    )
    assert "code -> qa 60%." in found.evidence[0]
    assert found.evidence[1] == "No pair leaks on ordinary requests."
    assert found.evidence[2].startswith("Most of it is the manner of qa: 7.6%")


def test_boundaries_first_where_they_are_off(tmp_path: Path) -> None:
    run = MadeRun(*UNTAGGED)
    for task in ("code", "json", "math"):
        for name in ("ordinary", "conflict"):
            run.matrix[name][task] = {task: 0.8, "qa": 0.1, "style": 0.1}
    (found,) = found_by(CrosstalkPairs(), run, tmp_path)
    assert found.severity is Severity.medium
    assert set(found.tasks) == {"math", "code", "json"}
    assert found.overrides == ["boundary=tagged", *in_phases("prompts.cue_share=0.2")]


def test_negatives_where_nothing_else_is_left(tmp_path: Path) -> None:
    run = MadeRun()
    run.matrix["ordinary"]["code"] = {"code": 0.4, "general": 0.6}
    (found,) = found_by(CrosstalkPairs(), run, tmp_path)
    assert found.overrides == ["data.negatives.cross_task=0.1", *in_phases("negatives.share=0.1")]


def test_more_cues_where_there_were_some(tmp_path: Path) -> None:
    run = MadeRun(*in_phases("prompts.cue_share=0.2"))
    run.matrix["conflict"]["code"] = {"code": 0.4, "qa": 0.6}
    (found,) = found_by(CrosstalkPairs(), run, tmp_path)
    assert found.overrides == in_phases("prompts.cue_share=0.4")


def test_leaks_within_chance_mixed_and_none_are_no_crosstalk(tmp_path: Path) -> None:
    run = MadeRun()
    run.matrix["conflict"]["code"] = {"code": 0.93, "qa": 0.07}
    run.matrix["ordinary"]["json"] = {"json": 0.4, "mixed": 0.3, "none": 0.3}
    run.matrix["no_tag"]["json"] = {"json": 0.4, "qa": 0.6}  # the matter of TagsNeeded
    assert found_by(CrosstalkPairs(), run, tmp_path) == []


def test_unjudged_behaviours(tmp_path: Path) -> None:
    run = MadeRun()
    run.has_crosstalk = False
    for rule in (CrosstalkPairs(), TagsNeeded(), RoutingOrSkill()):
        assert missing_of(rule, run, tmp_path).startswith("behaviours were not judged")
    run.columns = ["initial"]
    assert missing_of(CrosstalkPairs(), run, tmp_path) == "no evaluation at a phase end"


def test_tasks_told_apart_by_tags_alone(tmp_path: Path) -> None:
    run = MadeRun()
    for task in SPECIAL[:5]:
        run.matrix["no_tag"][task] = {task: 0.5, "style": 0.5}
        run.set_scores["no_tag", task] = 0.45
    (found,) = found_by(TagsNeeded(), run, tmp_path)
    assert found.severity is Severity.medium
    assert found.tasks == list(SPECIAL[:5])
    assert found.score == pytest.approx(0.2)
    assert found.overrides == in_phases("prompts.tag_dropout=0.1")
    assert "Crosstalk is 0.0% with tags and 25.0% without" in found.evidence[0]
    assert "20.0 points lower" in found.evidence[1]


def test_tags_that_are_not_needed(tmp_path: Path) -> None:
    run = MadeRun()
    assert found_by(TagsNeeded(), run, tmp_path) == []
    for name in ("ordinary", "no_tag"):  # a leak with and without
        run.matrix[name]["qa"] = {"qa": 0.2, "style": 0.8}
    assert found_by(TagsNeeded(), run, tmp_path) == []


def test_tags_cannot_be_judged_without_the_set_or_without_tags(tmp_path: Path) -> None:
    run = MadeRun()
    del run.matrix["no_tag"]
    assert "no_tag is not in evaluation.prompt_sets" in missing_of(TagsNeeded(), run, tmp_path)
    assert missing_of(TagsNeeded(), MadeRun(*UNTAGGED), tmp_path) == (
        "no phase has tags or constraints"
    )


def test_a_weak_task_that_is_misrouted_wants_boundaries(tmp_path: Path) -> None:
    run = MadeRun(*UNTAGGED)
    run.scores["specialize"]["code"] = 0.3
    run.matrix["ordinary"]["code"] = {"code": 0.35, "qa": 0.65}
    (found,) = found_by(RoutingOrSkill(), run, tmp_path)
    assert found.title == "weak tasks are misrouted: mend boundaries, not data"
    assert (found.severity, found.tasks) == (Severity.low, ["code"])
    assert found.overrides == ["boundary=tagged"]
    assert "35% of its answers have its behaviour, and score 86%" in found.evidence[0]


def test_a_weak_task_that_lacks_skill_wants_rows(tmp_path: Path) -> None:
    run = MadeRun()
    run.setting("data.tasks.code.target", 0.9)
    run.scores["specialize"]["code"] = 0.7
    (found,) = found_by(RoutingOrSkill(), run, tmp_path)
    assert found.title == "weak tasks lack skill: more or better rows, not boundaries"
    assert "below 90%" in found.evidence[0]
    assert found.overrides == [
        "balance@curriculum.phases.specialize.balance=axes",
        "curriculum.phases.specialize.balance.importance.code=2",
    ]


def test_no_advice_on_tasks_that_are_not_weak(tmp_path: Path) -> None:
    run = MadeRun()
    run.scores["specialize"]["code"] = 0.65  # within a quarter of the others
    assert found_by(RoutingOrSkill(), run, tmp_path) == []
    run.generates = False
    assert missing_of(RoutingOrSkill(), run, tmp_path).startswith("behaviours were not judged")
