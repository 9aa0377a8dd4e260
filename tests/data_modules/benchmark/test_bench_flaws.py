"""Poor and contrast rows of the benchmark: as many as asked for, poor or right as they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_modules.benchmark import (
    TASK,
    TASKS,
    BenchmarkSpec,
    behaviour_of,
    generate,
    golds,
    is_correct,
    parse_payload,
    world,
)

SPEC = BenchmarkSpec(
    multiplier=1.0, general_rows=5, eval_rows=3, poor_rows=23, contrast_rows=15, seed=3
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(SPEC, tmp_path_factory.mktemp("bench") / "flawed")


def rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_as_many_poor_answers_as_asked_for_and_none_that_its_format_hides(folder: Path) -> None:
    poor = {
        task: [
            row
            for row in rows(folder / f"train/{task}.jsonl")
            if behaviour_of(row["output"]) != task
        ]
        for task in TASKS
    }
    assert sum(map(len, poor.values())) == 23
    assert len(poor["qa"]) > 5, "half of the rows are qa's"
    for task, of_task in poor.items():
        for row in of_task:
            payload, _ = parse_payload(row["input"])
            right = row | {"output": golds(payload, world(SPEC.seed))[task]}
            assert not is_correct(task, right, row["output"])
            assert behaviour_of(row["output"]) in {*TASKS, "general"} - {task}


def test_other_rows_are_what_they_are_without_poor_ones(folder: Path, tmp_path: Path) -> None:
    clean = generate(
        BenchmarkSpec(multiplier=1.0, general_rows=5, eval_rows=3, seed=3), tmp_path / "c"
    )
    different = 0
    for task in TASKS:
        for mine, other in zip(
            rows(folder / f"train/{task}.jsonl"), rows(clean / f"train/{task}.jsonl"), strict=True
        ):
            different += mine != other
            assert {**mine, "output": ""} == {**other, "output": ""}
    assert different == 23
    assert rows(folder / "eval/qa.jsonl") == rows(clean / "eval/qa.jsonl")
    assert not (clean / "contrast").exists()


def test_contrast_rows_carry_another_tasks_cue_and_the_right_answer(folder: Path) -> None:
    found = {task: rows(folder / f"contrast/{task}.jsonl") for task in TASKS}
    assert sum(map(len, found.values())) == 15
    assert {len(of_task) for of_task in found.values()} == {1, 2}
    for task, of_task in found.items():
        for row in of_task:
            payload, cue = parse_payload(row["input"])
            assert not payload.for_eval
            assert cue not in (None, TASK[task].cue)
            assert behaviour_of(row["output"]) == task
