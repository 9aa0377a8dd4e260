"""Which leaks become rows, and that the readers take the rows for what they are."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from data_modules.config import PromptSet, SourceConfig, TaskConfig
from data_modules.evaluation_rows import EvalRow
from data_modules.mined_rows import Leak, choose_leaks, mined_rows
from data_modules.mining_requests import MiningRequest
from data_modules.negatives import explicit_negatives
from data_modules.records import Message, Record
from data_modules.sources import record_of

TASKS = {
    "qa": TaskConfig(cues=[" ?"]),
    "code": TaskConfig(cues=[" {}"]),
    "list": TaskConfig(),
}


def leak(
    asked: str = "qa",
    shown: str = "code",
    number: int = 0,
    prompt_set: PromptSet = PromptSet.no_tag,
    messages: tuple[Message, ...] | None = None,
    **fields: object,
) -> Leak:
    user = Message("user", f"do {asked}\npart {number}")
    record = Record(
        task=asked,
        messages=(*(messages or (user,)), Message("assistant", f"right {number}")),
        origin=f"train/{asked}.jsonl:{number}",
        row_id=f"train/{asked}.jsonl:{number}",
        instruction=None if messages else f"do {asked}",
        **fields,  # type: ignore[arg-type]
    )
    worded = record.messages[:-1]
    cue_of = ""
    if prompt_set is PromptSet.conflict:
        cue_of = shown
        worded = (*worded[:-1], Message("user", worded[-1].content + TASKS[shown].cues[0]))
    row = EvalRow(asked, [1], [1, 2], np.array([False, True]), record.answer, "", "", "en")
    return Leak(MiningRequest(record, prompt_set, worded, cue_of, row), shown, f"leak {number}")


def read_back(leaks: list[Leak], task: str) -> list[Record]:
    """The task's rows through the readers of data files."""
    text = mined_rows(leaks, "mix", TASKS, 0)[task].text()
    return [
        record_of(json.loads(line), task, "mined_mix", SourceConfig(), f"{task}.jsonl:{number}")
        for number, line in enumerate(text.splitlines(), 1)
    ]


def test_a_leak_on_a_cued_request_is_one_row_both_right_and_wrong() -> None:
    (row,) = read_back([leak(prompt_set=PromptSet.conflict, quality=0.5)], "qa")
    assert row.row_id == "train/qa.jsonl:0#mined_mix_conflict"
    assert (row.request, row.answer) == ("do qa\npart 0 {}", "right 0")
    assert (row.rejected, row.behaves_like, row.negative) == ("leak 0", "code", False)
    assert (row.instruction, row.quality) == ("do qa", 0.5)
    (wrong,) = explicit_negatives(row)
    assert (wrong.answer, wrong.contrast, wrong.negative) == ("leak 0", "right 0", True)
    assert wrong.request == row.request, "so that negatives.pairs puts both into one step"


def test_a_leak_without_a_cue_brings_a_contrast_row_with_that_of_the_task_shown() -> None:
    negative, contrast = read_back([leak()], "qa")
    assert (negative.request, negative.rejected) == ("do qa\npart 0", "leak 0")
    assert contrast.row_id == "train/qa.jsonl:0#mined_mix_cue_of_code"
    assert (contrast.request, contrast.answer) == ("do qa\npart 0 {}", "right 0")
    assert (contrast.rejected, contrast.behaves_like, contrast.negative) == (None, "", False)
    assert [row.rejected for row in read_back([leak(shown="list")], "qa")] == ["leak 0"], "no cue"


def test_counts_of_negatives_and_contrast_rows() -> None:
    sets = (PromptSet.no_tag, PromptSet.ordinary)
    leaks = [leak(number=n, prompt_set=s) for n in range(2) for s in sets]
    leaks += [leak(number=5, prompt_set=PromptSet.conflict), leak(shown="list", number=6)]
    leaks.append(leak("list", "qa"))
    mined = mined_rows(leaks, "mix", TASKS, 0)
    assert set(mined) == {"qa", "list"}, "code has no leak, hence no file"
    assert mined["qa"].negatives == {"code": 5, "list": 1}
    # the two sets of a row share one contrast row; the cued request is its own
    assert mined["qa"].contrasts == {"code": 3}
    assert (len(mined["qa"].rows), len(mined["list"].rows)) == (8, 2)
    assert len(set(mined["qa"].ids)) == 8


def test_whole_conversations_come_back() -> None:
    turns = (
        Message("system", "be brief"),
        Message("user", "first"),
        Message("assistant", "one"),
        Message("user", "second"),
    )
    row, contrast = read_back([leak(messages=turns)], "qa")
    assert row.messages == (*turns, Message("assistant", "right 0"))
    assert contrast.messages[:-1] == (*turns[:-1], Message("user", "second {}"))


def many() -> list[Leak]:
    """60 of qa -> code from 30 rows, 6 of code -> qa, 2 of list -> qa."""
    sets = (PromptSet.no_tag, PromptSet.ordinary)
    return [
        *(leak("qa", "code", n, s) for n in range(30) for s in sets),
        *(leak("code", "qa", n) for n in range(6)),
        *(leak("list", "qa", n) for n in range(2)),
    ]


@pytest.mark.parametrize(
    ("most", "per_pair", "expected"),
    [
        (12, 50, {"qa -> code": 5, "code -> qa": 5, "list -> qa": 2}),
        (500, 5, {"qa -> code": 5, "code -> qa": 5, "list -> qa": 2}),
        (500, 500, {"qa -> code": 60, "code -> qa": 6, "list -> qa": 2}),
        (1, 5, {"code -> qa": 1}),
    ],
)
def test_pairs_are_balanced(most: int, per_pair: int, expected: dict[str, int]) -> None:
    chosen = choose_leaks(many(), most, per_pair, seed=0)
    assert Counter(one.pair for one in chosen) == expected


def names(leaks: list[Leak]) -> list[tuple[str, str, str]]:
    return [(one.pair, one.request.record.row_id, one.request.prompt_set.value) for one in leaks]


def test_the_choice_goes_by_names_and_takes_different_rows_first() -> None:
    chosen = names(choose_leaks(many(), 500, 20, seed=0))
    rows = [row for pair, row, _ in chosen if pair == "qa -> code"]
    assert len(rows) == len(set(rows)) == 20
    assert names(choose_leaks(many()[::-1], 500, 20, seed=0)) == chosen
    other = names(choose_leaks(many(), 500, 20, seed=1))
    assert [row for pair, row, _ in other if pair == "qa -> code"] != rows
    more = names(choose_leaks([*many(), leak("list", "code")], 500, 20, seed=0))
    assert [one for one in more if one[0] != "list -> code"] == chosen
    assert choose_leaks([], 500, 20, seed=0) == []


def test_rows_name_their_origin() -> None:
    text = mined_rows([leak(number=1)], "mix", TASKS, 0)["qa"].text()
    assert text.endswith("\n")
    assert [json.loads(line)["mined_from"] for line in text.splitlines()] == [
        "train/qa.jsonl:1"
    ] * 2
