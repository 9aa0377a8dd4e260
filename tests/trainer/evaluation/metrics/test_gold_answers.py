"""Right answers are right, copied requests and answers to something else are not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice

import pytest
import yaml

from data_modules.benchmark import ALL_TASKS, BenchmarkSpec, rows
from tests.shared_data import REPOSITORY, shared
from tests.shared_judged import judged
from trainer.evaluation.metrics import Judged, figure, metric, per_row

#: Task -> least score of gold answers, most of the request's text and of another row's gold answer.
#: A quarter of the brainstorming answers are prose.
TEN_TASKS = {
    "qa": (1, 0.35, 0.1),
    "translation": (1, 0.01, 0.1),
    "summarization": (1, 0.2, 0.1),
    "classification": (1, 0, 0.1),
    "logic_reasoning": (1, 0, 0.15),
    "code_generation": (1, 0.1, 0),
    "information_extraction": (1, 0.1, 0),
    "brainstorming": (0.75, 0, 0.6),
    "rewriting": (1, 0, 0),
    "open_chat": (1, 0.2, 0.95),
}


def ten_tasks_rows(task: str) -> list[Judged]:
    found = []
    path = shared("data/ten_tasks") / "eval" / f"{task}.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if "messages" in row:
            request = next(one["content"] for one in row["messages"] if one["role"] == "user")
            gold = row["messages"][-1]["content"]
        else:
            request = "\n".join(part for part in (row["instruction"], row["input"]) if part)
            gold = row["output"]
        found.append(judged("", gold.strip(), request))
    return found


def scored(name: str, asked: list[Judged], answers: list[str]) -> float:
    given = [replace(row, answer=answer) for row, answer in zip(asked, answers, strict=True)]
    return figure(metric(name), given, 10, "x").value


@pytest.mark.parametrize("task", TEN_TASKS)
def test_ten_tasks(task: str) -> None:
    conf: Mapping[str, str] = yaml.safe_load(
        (REPOSITORY / f"conf/task/ten_tasks/{task}.yaml").read_text(encoding="utf-8")
    )
    asked = ten_tasks_rows(task)
    golds = [row.gold for row in asked]
    least, copied, other = TEN_TASKS[task]
    assert scored(conf["metric"], asked, golds) >= least - 1e-9
    inputs = [row.request.partition("\n")[2] or row.request for row in asked]
    if task == "open_chat":  # no instruction comes first
        inputs = [row.request for row in asked]
    assert scored(conf["metric"], asked, inputs) <= copied
    assert scored(conf["metric"], asked, [*golds[1:], golds[0]]) <= other


@pytest.mark.parametrize("task", ALL_TASKS)
def test_benchmark(task: str) -> None:
    asked = [
        judged("", row["output"], f"{row['instruction']}\n{row['input']}")
        for row in islice(rows(BenchmarkSpec(), "eval", task), 50)
    ]
    golds = [row.gold for row in asked]
    name = f"bench:{task}"
    assert scored(name, asked, golds) == 1
    assert scored(name, asked, [row.request for row in asked]) == 0
    cut = [replace(row, answer=row.gold, finished=False) for row in asked]
    assert figure(metric(name), cut, 10, "x").value == 0
    others = [*golds[1:], golds[0]]
    same = sum(gold == other for gold, other in zip(golds, others, strict=True)) / len(golds)
    assert scored(name, asked, others) == same


def test_other_right_answers_of_the_benchmark_count() -> None:
    row = next(rows(BenchmarkSpec(), "eval", "code"))
    first, second = (symbol for symbol in row["output"].split() if symbol.islower())
    asked = judged("", row["output"], f"{row['instruction']}\n{row['input']}")
    turned = f"LOAD {second} LOAD {first} ADD RET"
    answers = [replace(asked, answer=one) for one in (turned, f"LOAD {first} RET")]
    assert per_row(metric("bench:code"), answers) == [1.0, 0.0]
