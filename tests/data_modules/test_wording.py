"""Wording: paraphrase, cue, tag and constraint; every row for itself, seeded by names."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest

from data_modules.config import BoundaryConfig, TaskConfig
from data_modules.faults import DataFault
from data_modules.mixture import MixtureConfig, PromptConfig
from data_modules.records import Message, Record
from data_modules.wording import (
    NO_BOUNDARY,
    Worded,
    WordingCounts,
    phase_boundary,
    prompt_for,
    worded,
    wording_is_random,
    wording_key,
)

TASK = TaskConfig(tag="[qa]", constraint="Answer only.")
SINGLE = (Message("user", "Why?"), Message("assistant", "Because."))
MULTI = (
    Message("system", "Be kind."),
    Message("user", "Why?"),
    Message("assistant", "Because."),
    Message("user", "Really?"),
    Message("assistant", "Yes."),
)
TASKS = {
    "qa": TaskConfig(
        tag="[qa]",
        constraint="Answer only.",
        cues=["?", "\nWhat is this about?"],
        paraphrases={
            "en": ["Please: {instruction}", "{instruction} Be brief.", "Answer this."],
            "any": ["> {instruction}"],
        },
    ),
    "choice": TaskConfig(cues=["?"]),
    "code": TaskConfig(tag="[code]", cues=["\n```", "\n```python"]),
    "ideas": TaskConfig(cues=["\nList some ideas.", "\nAny ideas?", " "]),
    "chat": TaskConfig(general=True),
}


def record(
    number: int,
    task: str = "qa",
    request: str = "How long is it?",
    messages: tuple[Message, ...] | None = None,
    **fields: object,
) -> Record:
    turns = messages or (Message("user", request), Message("assistant", f"answer {number}"))
    row = Record(task, turns, f"{task}.jsonl:{number}", f"{task}.jsonl:{number}", language="en")
    return replace(row, **fields)  # type: ignore[arg-type]


def many(rows: int = 2000, task: str = "qa") -> list[Record]:
    return [record(number, task) for number in range(1, rows + 1)]


def word(
    row: Record,
    prompts: PromptConfig,
    boundary: BoundaryConfig = NO_BOUNDARY,
    tasks: dict[str, TaskConfig] = TASKS,
    phase: str = "mix",
    seed: int = 0,
) -> Worded:
    return worded(row, tasks, boundary, prompts, phase, seed)


def bounded(
    messages: tuple[Message, ...], task: TaskConfig, boundary: BoundaryConfig
) -> tuple[Message, ...]:
    return word(record(1, messages=messages), PromptConfig(), boundary, {"qa": task}).messages


def contents(messages: tuple[Message, ...]) -> list[str]:
    return [message.content for message in messages]


def request_of(row: Worded) -> str:
    return row.messages[0].content


def assert_share(hits: int, rows: int, share: float) -> None:
    """Within four standard errors."""
    assert abs(hits - share * rows) < 4 * math.sqrt(rows * share * (1 - share))


# Boundary ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tag", "constraint", "prompt"),
    [
        (True, True, "[qa] Why?\nAnswer only."),
        (True, False, "[qa] Why?"),
        (False, True, "Why?\nAnswer only."),
        (False, False, "Why?"),
    ],
)
def test_each_text_is_switched_by_itself(tag: bool, constraint: bool, prompt: str) -> None:
    assert contents(bounded(SINGLE, TASK, BoundaryConfig(tag, constraint))) == [prompt, "Because."]


def test_tag_once_constraint_on_every_user_turn() -> None:
    assert contents(bounded(MULTI, TASK, BoundaryConfig())) == [
        "Be kind.",
        "[qa] Why?\nAnswer only.",
        "Because.",
        "Really?\nAnswer only.",
        "Yes.",
    ]


def test_roles_stay_and_the_given_messages_are_not_changed() -> None:
    before = contents(MULTI)
    result = bounded(MULTI, TASK, BoundaryConfig())
    assert [m.role for m in result] == [m.role for m in MULTI]
    assert contents(MULTI) == before


def test_a_task_without_texts_adds_none() -> None:
    assert bounded(MULTI, TaskConfig(), BoundaryConfig()) == MULTI
    # No stray space or line break where one of the two is missing.
    assert bounded(SINGLE, TaskConfig(tag="T"), BoundaryConfig())[0].content == "T Why?"
    assert bounded(SINGLE, TaskConfig(constraint="C"), BoundaryConfig())[0].content == "Why?\nC"


@pytest.mark.parametrize(
    ("language", "prompt"),
    [
        ("zh", "[问答] Why?\n只回答。"),
        ("en", "[QA] Why?\nAnswer only."),
        ("", "[qa] Why?\nAnswer only."),
    ],
)
def test_texts_follow_the_language_of_the_request(language: str, prompt: str) -> None:
    task = replace(TASK, tags={"zh": "[问答]", "en": "[QA]"}, constraints={"zh": "只回答。"})
    row = record(1, messages=SINGLE, language=language)
    result = word(row, PromptConfig(), BoundaryConfig(), {"qa": task})
    assert request_of(result) == prompt
    assert prompt_for("qa", "Why?", {"qa": task}, BoundaryConfig(), language) == prompt


def test_a_language_can_be_without_a_text() -> None:
    task = replace(TASK, tags={"en": ""})
    assert prompt_for("qa", "Why?", {"qa": task}, BoundaryConfig(), "en") == "Why?\nAnswer only."


def test_a_prompt_for_an_unknown_task_names_the_known_ones() -> None:
    with pytest.raises(DataFault, match="'aq'; the tasks are chat, choice, code, ideas, qa"):
        prompt_for("aq", "Why?", TASKS, BoundaryConfig(), "en")


def test_tag_dropout_takes_both_texts_of_that_share_of_rows() -> None:
    rows = [word(row, PromptConfig(tag_dropout=0.2), BoundaryConfig()) for row in many()]
    assert_share(sum(not row.tagged for row in rows), len(rows), 0.2)
    assert {request_of(row) for row in rows if row.tagged} == {"[qa] How long is it?\nAnswer only."}
    assert {request_of(row) for row in rows if not row.tagged} == {"How long is it?"}


def test_a_row_without_texts_is_not_tagged() -> None:
    assert not word(record(1), PromptConfig()).tagged
    assert not word(record(1, "ideas"), PromptConfig(), BoundaryConfig()).tagged


def test_the_phase_decides_whether_the_boundary_is_used() -> None:
    boundary = BoundaryConfig(constraint=False)
    assert phase_boundary(boundary, MixtureConfig(boundary=True)) == boundary
    assert phase_boundary(boundary, MixtureConfig(boundary=False)) == NO_BOUNDARY


# Cues --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.1, 0.5])
def test_cues_come_from_other_tasks_in_the_asked_share(share: float) -> None:
    rows = [word(row, PromptConfig(cue_share=share)) for row in many()]
    cued = [row for row in rows if row.cue_of]
    assert_share(len(cued), len(rows), share)
    # `choice` has no cue that qa has not too; "\nAny ideas?" ends like one of qa's own.
    tasks = Counter(row.cue_of for row in cued)
    assert set(tasks) == {"code", "ideas"}
    assert_share(tasks["code"], len(cued), 0.5)
    requests = Counter(request_of(row) for row in cued)
    assert set(requests) == {
        "How long is it\n```",
        "How long is it\n```python",
        "How long is it\nList some ideas.",
    }
    assert_share(requests["How long is it\n```"], tasks["code"], 0.5)
    assert {request_of(row) for row in rows if not row.cue_of} == {"How long is it?"}


def test_a_cue_leaves_the_answer_and_stands_before_the_constraint() -> None:
    for row in many(50):
        result = word(row, PromptConfig(cue_share=1), BoundaryConfig())
        assert result.messages[-1] == row.messages[-1]
        content = request_of(result)
        assert content.startswith("[qa] How long is it\n")
        assert content.endswith(("```\nAnswer only.", "python\nAnswer only.", "s.\nAnswer only."))


def test_the_cue_stands_in_the_last_user_turn() -> None:
    tasks = {"qa": TASKS["qa"], "code": TaskConfig(cues=[" ;"])}
    result = word(record(1, messages=MULTI), PromptConfig(cue_share=1), tasks=tasks)
    assert contents(result.messages) == ["Be kind.", "Why?", "Because.", "Really ;", "Yes."]
    assert result.cue_of == "code"


@pytest.mark.parametrize(
    ("request_text", "bare"),
    [
        ("Is it?", "Is it"),
        ("Is it??  ", "Is it"),
        ("It is.\nWhat is this about?", "It is."),
        ("It is.", "It is."),
        ("It is. ", "It is. "),
        ("?", "?"),
    ],
)
def test_a_request_loses_its_own_cues_first(request_text: str, bare: str) -> None:
    tasks = {"qa": TASKS["qa"], "code": TaskConfig(cues=[" ;"])}
    result = word(record(1, request=request_text), PromptConfig(cue_share=1), tasks=tasks)
    assert request_of(result) == f"{bare} ;"


def test_general_rows_and_lone_tasks_get_no_cue() -> None:
    always = PromptConfig(cue_share=1)
    assert word(record(1, "chat"), always) == Worded(record(1, "chat").messages, False, "", False)
    alone = {"qa": TASKS["qa"], "choice": TASKS["choice"]}
    assert word(record(1), always, tasks=alone).cue_of == ""
    assert request_of(word(record(1), always, tasks=alone)) == "How long is it?"


def test_another_task_takes_its_share_of_cues_and_moves_no_other() -> None:
    more = TASKS | {"new": TaskConfig(cues=[" ;"])}
    always = PromptConfig(cue_share=1)
    before = [word(row, always) for row in many(600)]
    after = [word(row, always, tasks=more) for row in many(600)]
    assert_share(sum(row.cue_of == "new" for row in after), 600, 1 / 3)
    assert all(
        one == other for one, other in zip(before, after, strict=True) if other.cue_of != "new"
    )


# Paraphrases -------------------------------------------------------------------------------------


def test_templates_rephrase_the_instruction_in_the_asked_share() -> None:
    row = record(1, request="How long?\nA river.", instruction="How long?")
    prompts = PromptConfig(paraphrase_share=0.4)
    rows = [word(replace(row, row_id=str(number)), prompts) for number in range(2000)]
    changed = [one for one in rows if one.paraphrased]
    assert_share(len(changed), len(rows), 0.4)
    requests = Counter(request_of(one) for one in changed)
    assert set(requests) == {
        "Please: How long?\nA river.",
        "How long? Be brief.\nA river.",
        "Answer this.\nA river.",
    }
    for count in requests.values():
        assert_share(count, len(changed), 1 / 3)
    assert {request_of(one) for one in rows if not one.paraphrased} == {row.request}


@pytest.mark.parametrize("instruction", [None, "How long is it?"])
def test_what_the_row_is_about_is_never_replaced(instruction: str | None) -> None:
    rows = [
        word(record(i, instruction=instruction), PromptConfig(paraphrase_share=1))
        for i in range(100)
    ]
    assert {request_of(row) for row in rows} == {
        "Please: How long is it?",
        "How long is it? Be brief.",
    }


def test_languages_without_templates_take_those_for_any() -> None:
    always = PromptConfig(paraphrase_share=1)
    assert request_of(word(record(1, language="zh"), always)) == "> How long is it?"
    result = word(record(1, "code"), always)
    assert (request_of(result), result.paraphrased) == ("How long is it?", False)


def test_the_first_user_turn_is_rephrased_and_braces_mean_nothing() -> None:
    messages = (MULTI[0], Message("user", "{x} {instruction}?"), *MULTI[2:])
    tasks = {"qa": TaskConfig(paraphrases={"en": ["Q {} {instruction}"]})}
    result = word(record(1, messages=messages), PromptConfig(paraphrase_share=1), tasks=tasks)
    assert contents(result.messages) == [
        *("Be kind.", "Q {} {x} {instruction}?", "Because.", "Really?", "Yes.")
    ]


def test_paraphrase_then_cue_then_boundary() -> None:
    tasks = {"qa": replace(TASKS["qa"], paraphrases={"en": ["So: {instruction}"]})}
    tasks["code"] = TaskConfig(cues=[" ;"])
    result = word(record(1), PromptConfig(0, 1, 1), BoundaryConfig(), tasks)
    assert result == Worded(
        (Message("user", "[qa] So: How long is it ;\nAnswer only."), record(1).messages[1]),
        *(True, "code", True),
    )


# Seeds -------------------------------------------------------------------------------------------

ALL = PromptConfig(tag_dropout=0.3, cue_share=0.5, paraphrase_share=0.5)


def test_a_row_depends_on_nothing_but_its_own_names() -> None:
    rows = many(200)
    results = [word(row, ALL, BoundaryConfig()) for row in rows]
    # whatever is worded before, wherever the row stands in its file
    assert [word(row, ALL, BoundaryConfig()) for row in reversed(rows)] == results[::-1]
    moved = [replace(row, origin="other.jsonl:9", source="b") for row in rows]
    assert [word(row, ALL, BoundaryConfig()) for row in moved] == results


@pytest.mark.parametrize("other", [{"phase": "hard"}, {"seed": 1}])
def test_another_phase_or_seed_draws_afresh(other: dict[str, object]) -> None:
    rows = many(400)
    one = [bool(word(row, ALL).cue_of) for row in rows]
    two = [bool(word(row, ALL, **other).cue_of) for row in rows]  # type: ignore[arg-type]
    assert_share(sum(a == b for a, b in zip(one, two, strict=True)), 400, 0.5)


def test_the_three_draws_are_independent() -> None:
    rows = [word(row, ALL, BoundaryConfig()) for row in many()]
    both = sum(bool(row.cue_of) and row.paraphrased for row in rows)
    assert_share(both, len(rows), 0.25)
    assert_share(sum(row.tagged and bool(row.cue_of) for row in rows), len(rows), 0.35)


def test_other_shares_leave_a_draw_alone() -> None:
    alone = PromptConfig(cue_share=0.5)
    for row in many(100):
        assert word(row, alone).cue_of == word(row, ALL).cue_of


def test_a_larger_share_keeps_the_rows_of_a_smaller_one() -> None:
    for row in many(200):
        if word(row, PromptConfig(cue_share=0.2)).cue_of:
            assert word(row, PromptConfig(cue_share=0.6)).cue_of


def test_a_negative_is_worded_like_the_right_answer() -> None:
    for row in many(100):
        messages = (row.messages[0], Message("assistant", "wrong"))
        wrong = replace(row, messages=messages, row_id=f"{row.row_id}#as_code", negative=True)
        right, result = word(row, ALL, BoundaryConfig()), word(wrong, ALL, BoundaryConfig())
        assert result.messages == (right.messages[0], messages[1])
        assert result[1:] == right[1:]


def test_rows_of_files_with_a_hash_in_their_name_draw_one_by_one() -> None:
    for negative in (False, True):
        rows = [
            replace(row, origin=f"c#.jsonl:{i}", row_id=f"c#.jsonl:{i}", negative=negative)
            for i, row in enumerate(many(400))
        ]
        hits = sum(bool(word(row, PromptConfig(cue_share=0.5)).cue_of) for row in rows)
        assert_share(hits, 400, 0.5)


# Fingerprint and counts --------------------------------------------------------------------------


def key(
    task: str = "qa",
    prompts: PromptConfig | None = None,
    tasks: dict[str, TaskConfig] = TASKS,
    boundary: BoundaryConfig | None = None,
    phase: str = "mix",
    seed: int = 0,
) -> dict[str, object]:
    given = (boundary or BoundaryConfig(), prompts or PromptConfig())
    return wording_key(task, tasks, *given, phase, seed)


def test_only_shares_make_wording_random() -> None:
    assert not wording_is_random(PromptConfig())
    for name in ("tag_dropout", "cue_share", "paraphrase_share"):
        assert wording_is_random(PromptConfig(**{name: 0.01}))
    assert key() == key(phase="hard", seed=7)
    dropped = PromptConfig(tag_dropout=0.1)
    assert len({str(key(prompts=dropped, phase=p, seed=s)) for p in "ab" for s in (0, 1)}) == 4


def test_the_key_holds_what_the_wording_depends_on_and_no_more() -> None:
    cued, rephrased = PromptConfig(cue_share=0.1), PromptConfig(paraphrase_share=0.1)
    other_cues = TASKS | {"code": TaskConfig(tag="[code]", cues=[" ;"])}
    assert key(boundary=NO_BOUNDARY) != key()
    assert key(tasks=TASKS | {"qa": replace(TASKS["qa"], tags={"zh": "[问]"})}) != key()
    assert key(tasks=TASKS | {"qa": replace(TASKS["qa"], constraint="")}) != key()
    assert key(tasks=other_cues) == key()
    assert key(prompts=cued, tasks=other_cues) != key(prompts=cued)
    assert key(prompts=rephrased, tasks=other_cues) == key(prompts=rephrased)
    assert key("chat", prompts=cued, tasks=other_cues) == key("chat", prompts=cued)
    fewer = TASKS | {"qa": replace(TASKS["qa"], paraphrases={})}
    assert key(tasks=fewer) == key()
    assert key(prompts=rephrased, tasks=fewer) != key(prompts=rephrased)


def test_counts_add_up_over_workers() -> None:
    rows = [word(row, ALL, BoundaryConfig()) for row in many(300)]
    whole, first, second = WordingCounts(), WordingCounts(), WordingCounts()
    for number, row in enumerate(rows):
        whole.add("qa", row)
        (first if number % 3 else second).add("qa", row)
    first.merge(second)
    assert first == whole
    expected = Counter(row.cue_of for row in rows if row.cue_of)
    assert whole.as_json() == {
        "qa": {
            "rows": 300,
            "tagged": sum(row.tagged for row in rows),
            "paraphrased": sum(row.paraphrased for row in rows),
            "cues": dict(sorted(expected.items())),
        }
    }
