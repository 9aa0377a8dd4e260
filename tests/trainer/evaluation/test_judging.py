"""Hand-made answers, judged as generated and after post-processing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from data_modules.config import PostProcess, TaskConfig, Unification
from data_modules.evaluation_rows import EvalRow
from trainer.evaluation.behaviour import BehaviourJudge
from trainer.evaluation.generate import Answer
from trainer.evaluation.judge import JudgedSet, judge_set
from trainer.evaluation.metrics import Judged
from trainer.evaluation.metrics.base import UNJUDGED
from trainer.evaluation.results import wilson

TASKS = {
    "digit": TaskConfig(
        metric="exact_match",
        format=r"ans \d",
        unify=[Unification.whitespace],
        postprocess=[PostProcess.first_line],
    ),
    "word": TaskConfig(metric="exact_match", format=r"[a-z]+ !"),
}
JUDGE = BehaviourJudge(TASKS, {}, 0)


class OnlyEven:
    """Judges rows whose gold ends in an even digit; a plug-in of a test."""

    name = "only_even"

    def statistics(self, rows: Sequence[Judged]) -> np.ndarray:
        return np.array(
            [[UNJUDGED if int(r.gold[-1]) % 2 else 0.5 * (r.answer == r.gold)] for r in rows]
        )

    def value(self, sums: np.ndarray, n: np.ndarray) -> np.ndarray:
        mean: np.ndarray = sums[..., 0] / n
        return mean


class Nothing(OnlyEven):
    """Judges no row."""

    def statistics(self, rows: Sequence[Judged]) -> np.ndarray:
        return np.full((len(rows), 1), UNJUDGED)


def row(number: int, answer: str, language: str = "en") -> EvalRow:
    mask = np.array([False, True])
    return EvalRow("digit", [1], [1, 2], mask, answer, f"f:{number}", f"ask {number}", language)


#: answer given, finished, gold, language of the request
CASES = [
    ("ans 0", True, "ans 0", "en"),
    ("ans 1\nand more", True, "ans 1", "en"),  # right after post-processing alone
    ("ans 2", False, "ans 2", "zh"),  # cut: wrong though equal
    ("cat !", True, "ans 3", "zh"),  # the other task's behaviour
    ("ans 4 cat !", True, "ans 4", "en"),  # two in one
    ("?", True, "ans 5", "en"),
]


def judged(task: TaskConfig, judge: BehaviourJudge | None = JUDGE) -> JudgedSet:
    rows = [row(n, gold, language) for n, (_, _, gold, language) in enumerate(CASES)]
    answers = [Answer(n, text, finished) for n, (text, finished, _, _) in enumerate(CASES)]
    prompts = [f"<user> ask {n}" for n in range(len(CASES))]
    return judge_set("digit", task, rows, answers, prompts, judge, 50)


def test_raw_and_processed_answers_are_judged_apart() -> None:
    result = judged(TASKS["digit"]).result
    raw, processed = result.raw["exact_match"], result.processed["exact_match"]
    assert (raw.value, raw.rows) == (1 / 6, 6)
    assert (processed.value, processed.rows) == (2 / 6, 6)
    assert (processed.low, processed.high) == wilson(2 / 6, 6)


def test_a_cut_answer_is_wrong_and_counted() -> None:
    found = judged(TASKS["digit"])
    assert found.result.truncated == 1
    assert [one["scores"]["exact_match"] for one in found.predictions] == [1, 1, 0, 0, 0, 0]
    assert [one["raw_scores"]["exact_match"] for one in found.predictions] == [1, 0, 0, 0, 0, 0]
    assert [one["finished"] for one in found.predictions] == [case[1] for case in CASES]
    assert found.scores == [1, 1, 0, 0, 0, 0]


def test_format_is_judged_raw_and_processed() -> None:
    found = judged(TASKS["digit"])
    # "ans 1\nand more" becomes "ans 1"
    assert found.result.in_format.value == 2 / 6
    assert found.result.in_format_processed.value == 3 / 6
    assert [one["format_violations"] for one in found.predictions] == [
        [], ["format"], [], ["format"], ["format"], ["format"],
    ]  # fmt: skip
    assert [one["processed_violations"] for one in found.predictions] == [
        [], [], [], ["format"], ["format"], ["format"],
    ]  # fmt: skip


def test_behaviours_are_of_the_raw_answer_and_counted_by_language() -> None:
    found = judged(TASKS["digit"])
    assert found.behaviours == ["digit", "none", "digit", "word", "mixed", "none"]
    assert found.result.behaviours == {
        "en": {"digit": 1, "mixed": 1, "none": 2},
        "zh": {"digit": 1, "word": 1},
    }
    assert [one["behaviour"] for one in found.predictions] == found.behaviours
    without = judged(TASKS["digit"], None)
    assert (without.behaviours, without.result.behaviours) == (None, {})
    assert {one["behaviour"] for one in without.predictions} == {None}


def test_predictions_keep_what_was_asked_and_said() -> None:
    second = judged(TASKS["digit"]).predictions[1]
    assert {key: second[key] for key in ("origin", "language", "prompt", "request", "gold")} == {
        "origin": "f:1",
        "language": "en",
        "prompt": "<user> ask 1",
        "request": "ask 1",
        "gold": "ans 1",
    }
    assert (second["answer"], second["processed"]) == ("ans 1\nand more", "ans 1")


def test_rows_that_a_metric_does_not_judge() -> None:
    task = TaskConfig(metric=f"{__name__}:OnlyEven", metrics=["exact_match", f"{__name__}:Nothing"])
    found = judged(task)
    name = task.metric
    assert found.scores == [0.5, None, 0.5, None, 0.0, None]
    assert found.result.processed[name].value == 1 / 3
    assert found.result.processed[name].rows == 3
    assert set(found.result.processed) == {name, "exact_match"}, (
        "a metric without a row has no figure"
    )
    assert {one["scores"][f"{__name__}:Nothing"] for one in found.predictions} == {None}


def test_gold_is_taken_in_the_tasks_format() -> None:
    task = TaskConfig(metric="exact_match", unify=[Unification.numbered_list])
    rows = [row(0, "- a\n- b")]
    answers = [Answer(0, "* a\n* b", True)]
    result = judge_set("digit", task, rows, answers, [""], None, 10).result
    assert result.raw["exact_match"].value == 0
    assert result.processed["exact_match"].value == 1
    assert result.in_format.value == 0
    assert result.in_format_processed.value == 1
