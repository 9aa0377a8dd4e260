"""The formats of the benchmark's task files judge as the benchmark's own detectors do."""

from __future__ import annotations

from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from data_modules.benchmark import (
    ALL_TASKS,
    NONE,
    TASKS,
    BenchmarkSpec,
    behaviour_of,
    golds,
    parse_payload,
    rows,
    world,
)
from data_modules.config import TaskConfig
from data_modules.faults import ConfigFault
from data_modules.seeding import generator
from trainer.evaluation.behaviour import BehaviourJudge, Example
from trainer.evaluation.behaviour.formats import Formats

FOLDER = Path(__file__).resolve().parents[4] / "conf/task/bench"
SPEC = BenchmarkSpec()


@cache
def bench_tasks() -> dict[str, TaskConfig]:
    schema = OmegaConf.structured(TaskConfig)
    return {
        task: OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(FOLDER / f"{task}.yaml")))
        for task in ALL_TASKS
    }


@cache
def gold_answers() -> list[tuple[str, str]]:
    """Task and right answer of 5,000 rows."""
    return [
        (task, row["output"])
        for task in ALL_TASKS
        for row in islice(rows(SPEC, "eval_conflict", task), 5000 // len(ALL_TASKS) + 1)
    ]


def corrupted() -> list[str]:
    """5,000 answers with symbols lost, doubled, swapped, or two answers run together."""
    draw = generator(0, "corrupted")
    golds_ = [answer.split() for _, answer in gold_answers()]
    found = []
    for number in range(5000):
        symbols = list(golds_[draw.integers(len(golds_))])
        other = golds_[draw.integers(len(golds_))]
        place = int(draw.integers(len(symbols)))
        match number % 6:
            case 0:
                del symbols[place]
            case 1:
                symbols.insert(place, symbols[place])
            case 2:
                symbols[place] = other[0]
            case 3:
                symbols = symbols + other
            case 4:
                symbols = [*symbols, *other[:1], *golds_[draw.integers(len(golds_))]]
            case _:
                symbols = symbols[: place + 1] * 2
        found.append("\n".join(symbols) if number % 7 == 0 else "  ".join(symbols))
    return found


def test_they_judge_golds_and_corrupted_answers_as_the_detectors_do() -> None:
    judge = BehaviourJudge.fit(bench_tasks(), {}, seed=0)
    answers = [answer for _, answer in gold_answers()] + corrupted()
    assert len(answers) > 10_000
    expected = [behaviour_of(answer) for answer in answers]
    assert {*expected} == {*ALL_TASKS, "mixed", "none"}
    for asked in ("qa", "sorting", "general"):
        assert judge.behaviours(asked, [""] * len(answers), answers) == expected


def test_every_right_answer_shows_its_task_and_the_report_says_so() -> None:
    training = {
        task: [Example("", answer, "") for name, answer in gold_answers() if name == task]
        for task in ALL_TASKS
    }
    report = BehaviourJudge.fit(bench_tasks(), training, seed=0).gold_report
    assert report.by_format == list(ALL_TASKS)
    assert report.by_classifier == []
    assert report.attributed == dict.fromkeys(ALL_TASKS, 1.0)
    assert report.leaked == dict.fromkeys(ALL_TASKS, 0.0)
    assert report.rows == {task: len(rows) for task, rows in training.items()}
    assert report.likeliest == {}


def test_the_ten_answers_to_one_payload_show_ten_tasks() -> None:
    payload, _ = parse_payload("k_7 b_0 m_9 @ m ?")
    answers = golds(payload, world(0))
    judge = BehaviourJudge.fit(bench_tasks(), {}, seed=0)
    for asked in TASKS:
        assert judge.behaviours(asked, [""] * 10, list(answers.values())) == list(answers)


@pytest.mark.parametrize(
    ("answer", "asked", "expected"),
    [
        ("yes", "", "boolean"),
        ("no\n", "", "boolean"),
        ("yes", "word", "word"),  # formats overlap: the asked task's own counts first
        ("word", "boolean", "word"),
        ("a  tab\tand\nbreak", "", "words"),
        ("7 yes", "", "mixed"),
        ("7 - yes", "", "mixed"),
        ("7 7 - 7", "", None),  # twice the same is not two behaviours
        ("- yes", "", None),
        ("", "", None),
    ],
)
def test_hand_made_formats(answer: str, asked: str, expected: str | None) -> None:
    formats = {
        "boolean": "yes|no",
        "word": "[a-z]+",
        "words": "[a-z]+( [a-z]+)+",
        "number": r"\d+",
        "free": "",
    }
    judge = Formats({name: TaskConfig(format=one) for name, one in formats.items()})
    assert judge.tasks == ("boolean", "word", "words", "number")
    assert judge.behaviour_of(answer, asked) == expected


def test_a_format_that_is_no_regular_expression_is_the_users_fault() -> None:
    tasks = {"a": TaskConfig(format="("), "b": TaskConfig(format="ok"), "c": TaskConfig(format="[")}
    with pytest.raises(ConfigFault) as caught:
        BehaviourJudge.fit(tasks, {}, seed=0)
    assert [fault.where for fault in caught.value.faults] == [
        "data.tasks.a.format",
        "data.tasks.c.format",
    ]


def test_a_malformed_answer_is_none_and_a_blank_one_too() -> None:
    judge = BehaviourJudge.fit(bench_tasks(), {}, seed=0)
    assert judge.behaviours("qa", [""] * 3, ["ans 9", "", " \n "]) == [NONE] * 3
