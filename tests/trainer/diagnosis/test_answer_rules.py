"""Lists, questions back, refusals, chatter, cut answers, formats: ill, healthy, not measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.trainer.diagnosis.made_run import PHASES, ROWS, MadeRun, found_by, missing_of
from trainer.diagnosis import Severity
from trainer.diagnosis.rules.answers import (
    AskingBack,
    FormatDrift,
    OverListing,
    Refusing,
    Truncation,
    UnwantedBehaviour,
)
from trainer.diagnosis.rules.talk import OverExplaining

LIST = "1. one\n2. two\n3. three"
EVERY_RULE = (
    AskingBack(),
    FormatDrift(),
    OverExplaining(),
    OverListing(),
    Refusing(),
    Truncation(),
)


def answered(run: MadeRun, task: str, answer: str, share: float, gold: str = "blue .") -> None:
    """Let a share of a task's answers be this one, the others right."""
    wrong = round(share * ROWS)
    run.answers[task] = [(answer, gold)] * wrong + [(gold, gold)] * (ROWS - wrong)


@pytest.mark.parametrize(
    ("rule", "answer", "behaviour", "title"),
    [
        (OverListing(), LIST, "list", "style: answers turn into lists"),
        (AskingBack(), "which one do you mean ?", "question", "style: the model asks back"),
        (
            Refusing(),
            "I'm sorry, but I cannot help with that.",
            "refusal",
            "style: the model declines",
        ),
    ],
)
def test_behaviours_that_right_answers_do_not_show(
    tmp_path: Path, rule: UnwantedBehaviour, answer: str, behaviour: str, title: str
) -> None:
    run = MadeRun()
    answered(run, "style", answer, 0.4)
    (found,) = found_by(rule, run, tmp_path)
    assert (found.title, found.tasks) == (title, ["style"])
    assert found.severity is Severity.high
    assert found.score == pytest.approx(0.4 / 11)
    assert not found.rooted
    assert found.overrides == [
        "data.negatives.cross_task=0.1",
        *(f"curriculum.phases.{phase}.negatives.share=0.1" for phase in PHASES),
    ]
    assert found.evidence[0].startswith("style: 40.0 % (33.5-46.9) of the answers")
    # and with training answers that teach it
    run.train_rows["style"] = [(answer, 0.1)] * 20 + [("a 1 !", 0.1)] * 12
    (found,) = found_by(rule, run, tmp_path)
    assert found.rooted
    assert "poor_data" in found.explains
    assert found.title == f"{title}, as training answers do"
    assert found.evidence[0].endswith("of 32 sampled training answers 62.5%.")
    assert found.overrides == [
        "data.cleaning.foreign_behaviour=true",
        f"data.tasks.style.forbidden=[{behaviour}]",
        "data.cleaning.max_drop_ratio=0.72",
    ]


@pytest.mark.parametrize("rule", [OverListing(), AskingBack(), Refusing()])
def test_behaviours_within_chance_or_of_right_answers(
    tmp_path: Path, rule: UnwantedBehaviour
) -> None:
    run = MadeRun()
    for task, answer in (("style", LIST), ("qa", "why ?"), ("json", "I cannot assist.")):
        answered(run, task, answer, 0.06)
        run.answers[f"{task}"] += []
    run.answers["code"] = [(LIST, LIST)] * ROWS
    run.answers["math"] = [("which ?", "which ?")] * ROWS
    assert found_by(rule, run, tmp_path) == []


@pytest.mark.parametrize("rule", EVERY_RULE, ids=lambda rule: rule.name)
def test_without_answers_nothing_is_known(tmp_path: Path, rule: UnwantedBehaviour) -> None:
    run = MadeRun()
    run.generates = False
    assert missing_of(rule, run, tmp_path) == "no answers were generated (evaluation.generate)"
    run.columns = ["initial"]
    assert missing_of(rule, run, tmp_path) == "no evaluation at a phase end"


def test_talk_around_the_right_answer(tmp_path: Path) -> None:
    run = MadeRun()
    answered(run, "code", "sure ! LOAD a RET", 0.5, "LOAD a RET")
    (found,) = found_by(OverExplaining(), run, tmp_path)
    assert (found.severity, found.tasks) == (Severity.high, ["code"])
    assert found.evidence == [
        "code: 50.0 % (43.1-56.9) of the answers hold the right one and more; such as "
        "'sure ! LOAD a RET' for 'LOAD a RET'."
    ]
    assert found.overrides == ["data.tasks.code.postprocess=[strip,unify,first_format]"]


def test_talk_that_training_answers_teach(tmp_path: Path) -> None:
    run = MadeRun()
    answered(run, "code", "sure ! LOAD a RET", 0.5, "LOAD a RET")
    good = "LOAD a LOAD b ADD RET"
    run.train_rows["code"] = [(f"sure ! {good}", 0.1)] * 12 + [(good, 0.1)] * 20
    (found,) = found_by(OverExplaining(), run, tmp_path)
    assert found.rooted
    assert found.overrides == ["data.cleaning.wrong_format=true"]
    assert "38% of the sampled training answers break the format too" in found.evidence[0]
    # too many to clean out
    run.train_rows["code"] = [(f"sure ! {good}", 0.1)] * 29 + [(good, 0.1)] * 3
    (found,) = found_by(OverExplaining(), run, tmp_path)
    assert found.overrides == ["data.tasks.code.postprocess=[strip,unify,first_format]"]


def test_answers_twice_as_long(tmp_path: Path) -> None:
    run = MadeRun()
    run.answers["style"] = [(f"{n} blue blue blue", f"{n} red") for n in range(ROWS)]
    (found,) = found_by(OverExplaining(), run, tmp_path)
    assert "times as long as right ones" in found.evidence[0]
    run.cut = {"style"}  # an answer without end is no talk
    assert found_by(OverExplaining(), run, tmp_path) == []


def test_a_score_that_post_processing_wins(tmp_path: Path) -> None:
    run = MadeRun()
    run.set_scores["ordinary", "style"] = 0.4
    run.processed["style"] = 0.7
    (found,) = found_by(OverExplaining(), run, tmp_path)
    assert found.score == pytest.approx(0.3 / 11)
    assert "score is 40.0 % (33.5-46.9) as generated, 70.0 %" in found.evidence[0]


def test_no_talk(tmp_path: Path) -> None:
    run = MadeRun()
    answered(run, "code", "sure ! LOAD a RET", 0.06, "LOAD a RET")  # within chance
    answered(run, "qa", "ans 7 .", 0.9, "7")  # too short to be held by anything
    run.processed["style"] = 0.88  # within chance
    answered(run, "translation", "Y Q I U U", 0.5, "Y Q I U")  # in format: wrong, and no talk
    found = found_by(OverExplaining(), run, tmp_path)
    assert [one.tasks for one in found] == [["qa"]]  # but seven times as long
    run.answers["qa"] = [("no 7 .", "yes !")] * ROWS
    assert found_by(OverExplaining(), run, tmp_path) == []


def test_answers_cut_too_early(tmp_path: Path) -> None:
    run = MadeRun()
    answered(run, "style", "k 1 a", 1.0, "k 1 a 0 r 4 !")
    run.cut = {"style"}
    (found,) = found_by(Truncation(), run, tmp_path)
    assert (found.severity, found.tasks) == (Severity.high, ["style"])
    # 13 tokens gave 5 of 13 characters: 33.8, and the next power of two
    assert found.overrides == ["data.tasks.style.max_new_tokens=64"]
    assert "cut at 13 tokens" in found.evidence[0]


def test_answers_that_do_not_end_are_not_cut_early(tmp_path: Path) -> None:
    run = MadeRun()
    answered(run, "style", "k k k k k k k k k k k k k", 1.0, "k 1 !")
    run.cut = {"style"}
    assert found_by(Truncation(), run, tmp_path) == []
    run.cut = set()
    answered(run, "style", "k 1", 1.0, "k 1 !")
    assert found_by(Truncation(), run, tmp_path) == []


def test_formats_that_are_lost(tmp_path: Path) -> None:
    run = MadeRun()
    run.in_format["specialize"] |= {"json": 0.6, "code": 0.96}
    (found,) = found_by(FormatDrift(), run, tmp_path)
    assert found.title == "json, code: answers lose their format" or found.tasks == ["code", "json"]
    assert set(found.tasks) == {"code", "json"}  # code certainly fell, from 100 %
    assert found.severity is Severity.high  # json is certainly below 70 %
    assert "json: 60.0 % (53.1-66.5) of the answers are in format, 100.0 %" in " ".join(
        found.evidence
    )
    assert found.overrides[:2] == ["data.cleaning.unify=true", "data.cleaning.wrong_format=true"]


def test_formats_that_were_never_learned(tmp_path: Path) -> None:
    run = MadeRun()
    for column in PHASES:
        run.in_format[column]["json"] = 0.88
    (found,) = found_by(FormatDrift(), run, tmp_path)
    assert found.title == "json: answers miss their format"
    assert found.severity is Severity.medium


def test_formats_within_chance_of_consistent(tmp_path: Path) -> None:
    run = MadeRun()
    for column in PHASES:
        run.in_format[column]["json"] = 0.93
    assert found_by(FormatDrift(), run, tmp_path) == []
    for task in run.config["data"]["tasks"].values():
        task["format"] = ""
    assert missing_of(FormatDrift(), run, tmp_path) == (
        "no task declares a format or unification rules"
    )
