"""Exact match: judged in the task's format, never for an answer that was cut."""

from __future__ import annotations

import numpy as np
import pytest

from data_modules.config import TaskConfig, Unification
from data_modules.evaluation_rows import EvalRow
from trainer.evaluation.evaluate import exact_match
from trainer.evaluation.generate import Answer

LISTS = TaskConfig(unify=[Unification.numbered_list, Unification.whitespace])


def row(gold: str) -> EvalRow:
    return EvalRow("qa", [1], [1, 2], np.array([False, True]), gold, "qa.jsonl:1")


@pytest.mark.parametrize(
    ("gold", "text", "task", "right"),
    [
        ("UP", " UP\n", TaskConfig(), True),
        ("UP", "DOWN", TaskConfig(), False),
        ("1. a\n2. b", "- a\n- b", LISTS, True),
        ("1. a\n2. b", "- a\n- b", TaskConfig(), False),
        ("1. a\n2. b", "- b\n- a", LISTS, False),
    ],
)
def test_format_does_not_count_content_does(
    gold: str, text: str, task: TaskConfig, right: bool
) -> None:
    assert exact_match(row(gold), Answer(0, text, finished=True), task) is right
    assert not exact_match(row(gold), Answer(0, text, finished=False), task)
