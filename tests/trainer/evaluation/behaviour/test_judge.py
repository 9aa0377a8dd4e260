"""The judge on made tasks: formats and classifier side by side, determinism, blank answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_modules.config import BoundaryConfig, SourceConfig, TaskConfig
from data_modules.mixture import MixtureConfig
from data_modules.phase_data_module import PhaseDataModule
from data_modules.seeding import generator
from tests.shared_data import byte_tokenizer, data_config, write_rows, write_task
from trainer.evaluation.behaviour import BehaviourJudge, Example, training_examples
from trainer.evaluation.behaviour.classifier import FEWEST

WORDS = (
    *("river", "stone", "cloud", "lamp", "paper", "green", "silver"),
    *("road", "window", "train", "garden", "bread", "music"),
)


def made(task: str, number: int) -> Example:
    """A passage, and its copy in capitals, a list, code, or a label."""
    draw = generator(0, task, number)
    words = [WORDS[i] for i in draw.integers(len(WORDS), size=8)]
    passage = "The " + " ".join(words) + "."
    answer = {
        "shout": passage.upper(),
        "list": "\n".join(f"{i}. {word}" for i, word in enumerate(words[:4], 1)),
        "code": f"def {words[0]}(x):\n    {words[1]} = x + {number}\n    return {words[1]}",
        "label": ["positive", "negative"][number % 2],
    }[task]
    return Example(f"Do it.\n{passage}", answer, "en")


TASKS = {
    "shout": TaskConfig(),
    "list": TaskConfig(),
    "code": TaskConfig(),
    "label": TaskConfig(format="positive|negative"),
}
TRAINING = {task: [made(task, number) for number in range(40)] for task in TASKS}


@pytest.fixture(scope="module")
def judge() -> BehaviourJudge:
    return BehaviourJudge.fit(TASKS, TRAINING, seed=0)


def test_answers_are_known_whatever_was_asked(judge: BehaviourJudge) -> None:
    for asked in TASKS:
        requests = [made(asked, number).request for number in range(100, 110)]
        for given_ in TASKS:
            answers = [made(given_, number).answer for number in range(200, 210)]
            assert judge.behaviours(asked, requests, answers) == [given_] * 10


def test_the_report_says_who_goes_by_what(judge: BehaviourJudge) -> None:
    report = judge.gold_report
    assert (report.by_format, report.by_classifier) == (["label"], ["shout", "list", "code"])
    assert report.attributed == dict.fromkeys(TASKS, 1.0)
    assert report.confusion == {task: {task: 1.0} for task in TASKS}
    assert report.leaked == dict.fromkeys(TASKS, 0.0)
    assert report.likeliest.keys() == TASKS.keys()
    assert report.bound >= 0


@pytest.mark.parametrize("answer", ["", " \n", "...", "---\n***", "again and again " * 40])
@pytest.mark.parametrize("asked", ["shout", "label"])
def test_nothing_said_is_none(judge: BehaviourJudge, asked: str, answer: str) -> None:
    assert judge.behaviours(asked, ["Do it."], [answer]) == ["none"]


def test_a_label_with_words_around_it_is_no_label(judge: BehaviourJudge) -> None:
    answers = ["positive", "positive.", "negative positive"]
    assert judge.behaviours("label", [made("label", 1).request] * 3, answers)[0] == "label"
    assert "label" not in judge.behaviours("label", [made("label", 1).request] * 3, answers)[1:]


@settings(max_examples=25)
@given(st.lists(st.text(max_size=60), min_size=1, max_size=8), st.sampled_from(list(TASKS)))
def test_every_answer_has_one_label(answers: list[str], asked: str) -> None:
    judge = BehaviourJudge.fit(TASKS, TRAINING, seed=0)
    found = judge.behaviours(asked, ["Do it."] * len(answers), answers)
    assert len(found) == len(answers)
    assert {*found} <= {*TASKS, "mixed", "none"}
    one_by_one = [judge.behaviours(asked, ["Do it."], [answer])[0] for answer in answers]
    assert found == one_by_one


def test_the_same_seed_the_same_judge_and_the_last_is_kept(judge: BehaviourJudge) -> None:
    again = BehaviourJudge(TASKS, TRAINING, seed=0)
    assert again.gold_report == judge.gold_report
    requests, answers = ["Do it."] * 40, [" ".join(WORDS[i % 13 :]) for i in range(40)]
    for asked in TASKS:
        assert again.behaviours(asked, requests, answers) == judge.behaviours(
            asked, requests, answers
        )
    kept = BehaviourJudge.fit(TASKS, TRAINING, seed=0)
    assert BehaviourJudge.fit(TASKS, {**TRAINING}, seed=0) is kept
    fewer = {**TRAINING, "code": TRAINING["code"][:-1]}
    assert BehaviourJudge.fit(TASKS, fewer, seed=0) is not kept


def test_the_asked_task_keeps_the_benefit_of_the_doubt() -> None:
    """Two tasks with the same answers: whichever was asked for is shown."""
    training = {task: TRAINING["shout"] for task in ("one", "two")} | {"code": TRAINING["code"]}
    judge = BehaviourJudge.fit({task: TaskConfig() for task in training}, training, seed=0)
    assert min(judge.gold_report.attributed.values()) >= 0.95
    assert min(judge.gold_report.likeliest.values()) < 0.8
    requests = [made("shout", number).request for number in range(100, 140)]
    answers = [made("shout", number).answer for number in range(100, 140)]
    for asked in ("one", "two"):
        assert np.mean([one == asked for one in judge.behaviours(asked, requests, answers)]) > 0.9
    assert "code" not in judge.behaviours("code", requests, answers)


def test_a_task_with_few_answers_cannot_be_found() -> None:
    training = {**TRAINING, "list": TRAINING["list"][: FEWEST - 1]}
    judge = BehaviourJudge.fit(TASKS, training, seed=0)
    assert judge.tasks == ("shout", "code", "label")
    assert "list" not in judge.gold_report.rows
    lonely = BehaviourJudge.fit({"shout": TaskConfig()}, TRAINING, seed=0)
    assert lonely.behaviours("shout", ["", ""], ["anything", ""]) == ["shout", "none"]


def test_training_examples_are_right_answers_of_all_tasks(tmp_path: Path) -> None:
    tasks = {"a": write_task(tmp_path, "a", 30), "chat": write_task(tmp_path, "chat", 12)}
    tasks["chat"].general = True
    rows = [
        {"instruction": f"the b {i}", "input": "more", "output": f"good {i}", "rejected": "bad"}
        for i in range(20)
    ]
    write_rows(tmp_path / "train/b.jsonl", rows)
    tasks["b"] = TaskConfig(sources={"main": SourceConfig(train="train/b.jsonl")})
    tasks["eval_only"] = TaskConfig(sources={"main": SourceConfig(eval="train/b.jsonl")})
    data = PhaseDataModule(
        data_config(tmp_path, tasks, workers=1),
        boundary=BoundaryConfig(),
        mixtures={"mix": MixtureConfig(tasks=["a", "b"])},
        tokenizer=byte_tokenizer(),
        seed=0,
        global_batch_size=8,
    )
    assert data.trained_tasks == ("a", "b")
    found = training_examples(data, 15, seed=0)
    assert {task: len(of_task) for task, of_task in found.items()} == {"a": 15, "chat": 12, "b": 15}
    numbers = [int(one.answer.removeprefix("good ")) for one in found["b"]]
    assert numbers == sorted({*numbers})
    assert found["b"][0].request == f"the b {numbers[0]}\nmore"
    assert found["b"][0].language == "en"
    assert training_examples(data, 15, seed=0) == found
    assert training_examples(data, 15, seed=1) != found
