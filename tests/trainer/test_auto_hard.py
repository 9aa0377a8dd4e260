"""Hard tasks by hand-made evaluations: the figure of each way, order, ties, bounds and words."""

from __future__ import annotations

import math

import pytest

from data_modules.config import TaskConfig
from data_modules.faults import DataFault
from data_modules.mixture import AutoHardConfig, HardBy
from tests.shared_evaluation import evaluation, judged
from trainer.auto_hard import Choice, pick
from trainer.evaluation.results import Evaluation, TaskResult

NAMES = ("code", "json", "math", "qa")
WHERE = "the evaluation of phase 'mix'"


def picked(
    by: HardBy,
    after: Evaluation,
    before: Evaluation | None = None,
    most: int = 2,
    candidates: tuple[str, ...] = NAMES,
    **targets: float,
) -> Choice:
    tasks = {name: TaskConfig(target=targets.get(name)) for name in (*NAMES, "chat")}
    settings = AutoHardConfig(by, most)
    return pick("hard", settings, candidates, tasks, after, before, "mix", WHERE)


def test_the_lowest_scores() -> None:
    scores = evaluation(code=0.4, json=0.9, math=0.1, qa=0.3)
    choice = picked(HardBy.score, scores)
    assert choice.picked == ("math", "qa")
    assert list(choice.figures.items()) == [
        ("math", 0.1),
        ("qa", 0.3),
        ("code", 0.4),
        ("json", 0.9),
    ]
    assert (choice.by, choice.source, choice.most, choice.without) == (HardBy.score, "mix", 2, {})
    assert choice.words == (
        "picked by lowest score in the evaluation of phase 'mix', 2 of 4 tasks, at most 2: "
        "1. math 0.100, 2. qa 0.300; next: code 0.400"
    )


def test_only_candidates_are_picked() -> None:
    scores = evaluation(code=0.4, json=0.9, math=0.1, qa=0.3)
    choice = picked(HardBy.score, scores, candidates=("code", "json"), most=1)
    assert choice.picked == ("code",)
    assert set(choice.figures) == {"code", "json"}


@pytest.mark.parametrize("by", list(HardBy))
def test_ties_go_by_name(by: HardBy) -> None:
    same = evaluation(qa=0.5, math=0.5, json=0.5, code=0.5)
    targets = dict.fromkeys(NAMES, 0.9)
    choice = picked(by, same, same, most=3, **targets)
    assert choice.picked == ("code", "json", "math")
    assert tuple(choice.figures) == NAMES


def test_the_largest_gaps_to_the_targets() -> None:
    scores = evaluation(code=0.5, json=0.25, math=0.25, qa=0.5)
    choice = picked(HardBy.gap, scores, code=1.0, json=0.5, qa=0.625)
    # math has the lowest score beside json, but nothing says what it should reach
    assert choice.picked == ("code", "json")
    assert choice.figures == {"code": 0.5, "json": 0.25, "qa": 0.125}
    assert choice.without == {"math": "no target"}
    assert choice.words == (
        "picked by largest gap to the target in the evaluation of phase 'mix', 2 of 3 tasks, at most "
        "2: 1. code 0.500, 2. json 0.250; next: qa 0.125; never picked: math (no target)"
    )


def test_a_task_at_its_target_is_no_gap() -> None:
    scores = evaluation(code=0.5, json=0.75, math=0.75, qa=0.5)
    choice = picked(HardBy.gap, scores, most=3, code=0.75, json=0.75, math=0.5, qa=0.25)
    assert choice.picked == ("code",)
    assert choice.figures == {"code": 0.25, "json": 0.0, "math": -0.25, "qa": -0.25}


def test_where_all_reach_their_targets_the_nearest_is_picked() -> None:
    scores = evaluation(code=0.5, json=0.75, math=1.0, qa=1.0)
    choice = picked(HardBy.gap, scores, code=0.25, json=0.625, math=0.5, qa=0.5)
    assert choice.picked == ("json",)
    assert choice.figures["json"] == -0.125
    assert choice.words.endswith("1. json -0.125; all tasks reach their targets, this one by least")


def losses(**values: float) -> Evaluation:
    return Evaluation({name: TaskResult(10, loss, False) for name, loss in values.items()})


def test_the_slowest_falls_of_the_loss() -> None:
    before = losses(code=2.0, json=4.0, math=1.0, qa=0.5)
    after = losses(code=1.0, json=3.0, math=0.25, qa=1.0)
    choice = picked(HardBy.loss_fall, after, before)
    # code halved, json lost a quarter, math three quarters, qa doubled: it rose
    assert choice.figures == {"qa": -1.0, "json": 0.25, "code": 0.5, "math": 0.75}
    assert choice.picked == ("qa", "json")
    assert "smallest relative fall of the loss" in choice.words
    assert "1. qa -100.0%, 2. json 25.0%; next: code 50.0%" in choice.words


@pytest.mark.parametrize(
    ("by", "code", "reason"),
    [
        (HardBy.score, TaskResult(10, 1.0, False), "no score"),
        (HardBy.score, judged(math.nan), "no score"),
        (HardBy.gap, TaskResult(10, 1.0, False), "no score"),
        (HardBy.loss_fall, judged(0.0, loss=math.nan), "no loss to compare"),
        (HardBy.loss_fall, judged(0.0, loss=math.inf), "no loss to compare"),
        *((by, None, "not evaluated") for by in HardBy),
    ],
)
def test_a_task_without_the_figure_is_never_picked(
    by: HardBy, code: TaskResult | None, reason: str
) -> None:
    full = evaluation(code=0.0, json=0.9, math=0.9, qa=0.9)
    tasks = {name: one for name, one in full.tasks.items() if name != "code"}
    after = Evaluation(tasks | ({"code": code} if code else {}))
    choice = picked(by, after, full, most=3, **dict.fromkeys(NAMES, 1.0))
    assert choice.picked == ("json", "math", "qa")
    assert choice.without == {"code": reason}
    assert choice.words.endswith(f"never picked: code ({reason})")


def test_a_fall_needs_the_evaluation_before() -> None:
    before = losses(code=2.0, json=0.0, math=1.0)
    choice = picked(HardBy.loss_fall, losses(code=1.0, json=1.0, math=1.0, qa=1.0), before)
    assert choice.picked == ("math", "code")
    assert choice.without == {"json": "no loss to compare", "qa": "not evaluated before"}


def test_fewer_than_could_be_picked() -> None:
    choice = picked(HardBy.score, evaluation(qa=0.3, code=0.2), most=3)
    assert choice.picked == ("code", "qa")
    assert "2 of 2 tasks, at most 3" in choice.words
    assert choice.words.endswith("never picked: json, math (not evaluated)")


def test_nothing_to_pick_by_is_a_fault() -> None:
    with pytest.raises(DataFault) as caught:
        picked(HardBy.gap, evaluation(code=0.1, qa=0.2), candidates=("code", "math", "qa"))
    (fault,) = caught.value.faults
    assert fault.where == "curriculum.phases.hard.auto_hard"
    assert fault.seen == (
        f"{WHERE} has no figure to pick by: code, qa (no target), math (not evaluated)"
    )
    assert fault.rule == "by=gap compares the tasks' gap to the target"


def test_the_plan_file_has_all_of_it() -> None:
    choice = picked(HardBy.score, evaluation(code=0.4, math=0.1, qa=0.3))
    assert choice.as_json() == {
        "by": "score",
        "from": "mix",
        "most": 2,
        "picked": ["math", "qa"],
        "figures": {"math": 0.1, "qa": 0.3, "code": 0.4},
        "without": {"json": "not evaluated"},
        "words": choice.words,
    }
