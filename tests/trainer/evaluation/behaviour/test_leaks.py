"""Examples of leaks, and leaks inside the right format."""

from __future__ import annotations

import pytest

from data_modules.benchmark import TASKS, behaviour_of, golds, parse_payload, world
from trainer.evaluation.behaviour import bench_content, leaks, semantic_leaks


def some(behaviours: list[str], per_pair: int) -> list[dict[str, str]]:
    n = len(behaviours)
    return leaks(
        "qa",
        "conflict",
        behaviours,
        requests=[f"request {i}" for i in range(n)],
        answers=[f"answer {i}" for i in range(n)],
        golds=[f"gold {i}" for i in range(n)],
        origins=[f"eval/qa.jsonl:{i}" for i in range(n)],
        per_pair=per_pair,
    )


def test_one_of_each_pair_with_all_that_is_known_of_it() -> None:
    assert some(["qa", "json", "none", "mixed", "code"], 3) == [
        {
            "asked": "qa",
            "shown": shown,
            "prompt_set": "conflict",
            "request": f"request {i}",
            "answer": f"answer {i}",
            "gold": f"gold {i}",
            "origin": f"eval/qa.jsonl:{i}",
        }
        for shown, i in (("code", 4), ("json", 1))
    ]


def test_so_many_and_the_same_whatever_else_leaks() -> None:
    few = some(["code"] * 50, 5)
    assert len(few) == 5
    assert few == some(["code"] * 50 + ["json"] * 50, 5)[:5]
    assert few == sorted(few, key=lambda one: one["origin"])
    numbers = [int(one["origin"].split(":")[1]) for one in few]
    assert max(numbers) > 10, "not the first ones"
    more = some(["code"] * 50, 9)
    assert {one["origin"] for one in few} < {one["origin"] for one in more}
    assert some(["code"] * 3, 0) == []


def test_contents_of_the_benchmarks_answers() -> None:
    constants = world(0)
    payload, _ = parse_payload("k_7 b_0 m_9 @ m")
    contents = {
        task: bench_content(gold, constants) for task, gold in golds(payload, constants).items()
    }
    in_order = ("k", "b", "m")
    assert contents["translation"] == contents["json"] == contents["style"] == in_order
    assert contents["sorting"] == ("b", "k", "m")
    assert contents["summarization"] == contents["code"] == ("k", "m")
    assert contents["qa"] == ("9",)
    assert contents["math"] == ("7", "9", "1", "6")
    assert contents["classification"] == ("UP",)


def test_a_translation_in_sorted_order_is_sortings_content() -> None:
    constants = world(0)
    payloads = [parse_payload(text)[0] for text in ("k_7 b_0 m_9 @ m", "a_1 b_2 c_3 @ a")]
    gold_contents = [
        {task: bench_content(gold, constants) for task, gold in golds(one, constants).items()}
        for one in payloads
    ]
    answers = [
        " ".join(constants.capitals[letter] for letter in "bkm"),  # sorted
        " ".join(constants.capitals[letter] for letter in "abc"),  # right, and sorted as it is
    ]
    found = semantic_leaks(
        "translation",
        [behaviour_of(answer) for answer in answers],
        [bench_content(answer, constants) for answer in answers],
        gold_contents,
    )
    assert found["sorting"] == 1.0  # of the one row that tells them apart
    assert {task for task, share in found.items() if share} == {"sorting"}
    assert found.keys() == {*TASKS} - {"translation", "json", "style"}


def test_only_answers_in_the_asked_format_count() -> None:
    contents = [("b", "a")] * 4
    golds_ = [{"x": ("a", "b"), "y": ("b", "a")}] * 4
    assert semantic_leaks("x", ["x", "y", "x", "none"], contents, golds_) == {
        "y": pytest.approx(0.5)
    }
