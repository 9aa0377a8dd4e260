"""Rows of every format: what becomes of them, and what is refused under which rule."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import Any

import pytest

from data_modules.config import RowFormat, SourceConfig
from data_modules.records import Message, Record, Reject
from data_modules.rejects import reject_line
from data_modules.sources import RowFault, record_of
from tests.data_modules.sources.source_data import SINGLE, conversations


def made(row: Any, **settings: Any) -> Record:
    return record_of(row, "qa", "main", SourceConfig(**settings), "f.jsonl:3")


def turns(row: Any, **settings: Any) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in made(row, **settings).messages]


def chat(*said: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in said]}


def shared(*said: tuple[str, Any]) -> dict[str, Any]:
    return {"conversations": [{"from": role, "value": content} for role, content in said]}


AB = [("user", "a"), ("assistant", "b")]


def test_a_plain_row_gets_its_names() -> None:
    assert made({"instruction": "a", "output": "b"}) == Record(
        "qa", (Message("user", "a"), Message("assistant", "b")), "f.jsonl:3", "f.jsonl:3", "main"
    )


@pytest.mark.parametrize(
    ("row", "prompt", "instruction"),
    [
        ({"instruction": "Add.", "input": "1 2"}, "Add.\n1 2", "Add."),
        ({"instruction": "Add."}, "Add.", None),
        ({"instruction": "Add.", "input": " "}, "Add.", None),
        ({"instruction": "Add.", "input": None}, "Add.", None),
        ({"instruction": "", "input": "1 2"}, "\n1 2", None),
    ],
)
def test_alpaca(row: dict[str, Any], prompt: str, instruction: str | None) -> None:
    record = made(row | {"output": "3"})
    assert record.messages == (Message("user", prompt), Message("assistant", "3"))
    assert record.instruction == instruction


def test_completion_takes_either_name() -> None:
    assert turns({"prompt": "a", "completion": "b"}) == AB
    assert turns({"prompt": "a", "response": "b"}) == AB
    assert turns({"prompt": "a", "completion": None, "response": "b"}) == AB
    assert turns({"prompt": "a", "completion": "b", "response": "c"}) == AB


def test_conversations() -> None:
    long = [("system", "s"), ("user", "1?"), ("assistant", "1"), ("user", "2?"), ("assistant", "2")]
    assert turns(chat(*long)) == long
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    assert turns(shared(*((names[role], text) for role, text in long))) == long
    assert turns(shared(*AB)) == AB
    # both names are in use for both kinds of turns
    assert turns({"conversations": chat(*AB)["messages"]}) == AB
    assert turns({"messages": shared(*AB)["conversations"]}) == AB
    # a cell of a table may hold JSON
    assert turns({"messages": '[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]'})


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.parametrize("setting", ["auto", "named"])
def test_formats_agree(name: str, setting: str) -> None:
    kind = RowFormat.auto if setting == "auto" else RowFormat[name]
    rows = conversations(200)
    records = [made(SINGLE[name](row), format=kind) for row in rows]
    assert [[(m.role, m.content) for m in record.messages] for record in records] == [
        row["turns"] for row in rows
    ]
    assert [record.row_id for record in records] == [row["id"] for row in rows]
    assert [record.rejected for record in records] == [row.get("rejected") for row in rows]
    assert [record.quality for record in records] == [row.get("quality") for row in rows]
    assert [record.negative for record in records] == [row.get("negative", False) for row in rows]
    assert {record.behaves_like for record in records if record.negative} == {"code"}


def test_auto_goes_by_the_fields_that_say_something() -> None:
    both = {"instruction": "no", "output": "no"} | chat(*AB)
    assert turns(both) == AB
    assert turns({"messages": None, "conversations": None, "prompt": "a", "completion": "b"}) == AB
    # mapped fields say which format is meant
    mapped = {"q": "a", "r": "b"} | chat(("user", "no"), ("assistant", "no"))
    assert turns(mapped, fields={"prompt": "q", "completion": "r"}) == AB


def test_a_named_format_reads_no_other() -> None:
    with pytest.raises(RowFault, match="field 'instruction' is missing"):
        made(chat(*AB), format=RowFormat.alpaca)
    with pytest.raises(RowFault, match="field 'conversations' is missing"):
        made(chat(*AB), format=RowFormat.sharegpt)


def test_fields_name_the_rows_own_columns() -> None:
    row = {"question": "a", "context": "c", "reply": "b", "nr": 7, "instruction": "not this"}
    fields = {"instruction": "question", "input": "context", "output": "reply", "id": "nr"}
    record = made(row, fields=fields)
    assert [m.content for m in record.messages] == ["a\nc", "b"]
    assert (record.instruction, record.row_id) == ("a", "7")
    talk = {"talk": [{"who": "user", "what": "a"}, {"who": "assistant", "what": "b"}]}
    names = {"messages": "talk", "role": "who", "content": "what"}
    assert turns(talk, fields=names) == AB


@pytest.mark.parametrize(
    ("extras", "expected"),
    [
        ({"id": 0}, {"row_id": "0"}),
        ({"id": ""}, {"row_id": "f.jsonl:3"}),
        ({"negative": "True"}, {"negative": True}),
        ({"negative": 0}, {"negative": False}),
        ({"negative": ""}, {"negative": False}),
        ({"quality": 1}, {"quality": 1.0}),
        ({"quality": "0.5"}, {"quality": 0.5}),
        ({"quality": ""}, {"quality": None}),
        ({"rejected": ""}, {"rejected": None}),
        ({"rejected": "c", "behaves_like": "code"}, {"rejected": "c", "behaves_like": "code"}),
        (dict.fromkeys(("id", "negative", "quality", "rejected", "behaves_like")), {}),
    ],
)
def test_extras(extras: dict[str, Any], expected: dict[str, Any]) -> None:
    record = made({"instruction": "a", "output": "b"} | extras)
    seen = {name: getattr(record, name) for name in expected}
    assert seen == expected


ALPACA = {"instruction": "a", "output": "b"}


@pytest.mark.parametrize(
    ("row", "rule", "reason"),
    [
        ([1, 2], "not_an_object", "the line holds list, expected an object"),
        (None, "not_an_object", "the line holds NoneType"),
        ({}, "missing_field", r"field 'instruction' is missing \(has \[\]\)"),
        ({"output": "b"}, "missing_field", r"field 'instruction' is missing \(has \['output'\]\)"),
        ({"instruction": "a"}, "missing_field", "field 'output' is missing"),
        ({"prompt": "a", "x": 1}, "missing_field", r"'completion' is missing.*\['prompt', 'x'\]"),
        ({"response": "a"}, "missing_field", "field 'prompt' is missing"),
        (ALPACA | {"instruction": 3}, "not_text", "field 'instruction' is int, expected text"),
        (ALPACA | {"output": None}, "not_text", "field 'output' is NoneType"),
        (ALPACA | {"input": ["b"]}, "not_text", "field 'input' is list"),
        ({"prompt": ["a"], "completion": "b"}, "not_text", "field 'prompt' is list"),
        (
            ALPACA | {"instruction": " \n"},
            "empty_prompt",
            "both 'instruction' and 'input' are empty",
        ),
        (ALPACA | {"output": " \t"}, "empty_answer", "field 'output' is empty"),
        ({"prompt": " ", "completion": "b"}, "empty_prompt", "field 'prompt' is empty"),
        ({"prompt": "a", "response": ""}, "empty_answer", "field 'response' is empty"),
        # Valid JSON, but no tokenizer takes half a character.
        (ALPACA | {"instruction": "a\ud83d"}, "not_unicode", r"'instruction' holds \\ud83d"),
        (ALPACA | {"output": "b\0"}, "nul_byte", "field 'output' holds a NUL byte at character 2"),
        ({"messages": "a"}, "not_messages", r"'messages' must be a list of \{role, content\}"),
        ({"messages": ["a"]}, "not_messages", "'messages' must be a list"),
        ({"messages": None}, "not_messages", "'messages' must be a list"),
        ({"conversations": {}}, "not_messages", r"must be a list of \{from, value\} objects"),
        ({"messages": [{"role": "user"}]}, "missing_field", "field 'content' is missing"),
        ({"messages": [{"content": "a"}]}, "missing_field", "field 'role' is missing"),
        ({"conversations": [{"from": "gpt"}]}, "missing_field", "field 'value' is missing"),
        (chat(("user", None), ("assistant", "b")), "not_text", "field 'content' is NoneType"),
        (chat((["x"], "a"), ("assistant", "b")), "not_text", "field 'role' is list"),
        (chat(("user", "a"), ("tool", "b")), "unknown_role", "role 'tool' is none of system, user"),
        (shared(("bot", "a")), "unknown_role", "role 'bot' is none of human, user, gpt"),
        (chat(("user", " "), ("assistant", "b")), "empty_prompt", "a user turn is empty"),
        (chat(("user", "a"), ("assistant", "")), "empty_answer", "an assistant turn is empty"),
        (shared(("human", "a"), ("gpt", "")), "empty_answer", "an assistant turn is empty"),
        (
            chat(("user", "a"), ("system", "s"), ("assistant", "b")),
            "misplaced_system",
            "a system turn must be the first",
        ),
        (chat(), "turn_order", r"saw \[\]"),
        (chat(("system", "s")), "turn_order", r"saw \[\]"),
        (chat(("user", "a")), "turn_order", r"saw \['user'\]"),
        (chat(("assistant", "a"), ("user", "b")), "turn_order", r"saw \['assistant', 'user'\]"),
        (chat(("user", "a"), ("user", "b"), ("assistant", "c")), "turn_order", "must alternate"),
        (shared(("gpt", "a"), ("human", "b")), "turn_order", "must alternate"),
        (ALPACA | {"id": 1.5}, "not_text", "field 'id' is float"),
        (ALPACA | {"id": True}, "not_text", "field 'id' is bool"),
        (
            ALPACA | {"negative": "maybe"},
            "not_a_flag",
            "field 'negative' is 'maybe', expected true",
        ),
        (ALPACA | {"negative": 2}, "not_a_flag", "field 'negative' is 2"),
        (ALPACA | {"negative": []}, "not_a_flag", r"field 'negative' is \[\]"),
        (ALPACA | {"behaves_like": 1}, "not_text", "field 'behaves_like' is int"),
        (ALPACA | {"rejected": ["c"]}, "not_text", "field 'rejected' is list"),
        (ALPACA | {"rejected": "b"}, "rejected_is_answer", "the same text as the answer"),
        (ALPACA | {"rejected": "c", "negative": True}, "rejected_of_negative", "no right answer"),
        (
            ALPACA | {"quality": 1.5},
            "bad_quality",
            "field 'quality' is 1.5, expected a number from",
        ),
        (ALPACA | {"quality": -0.1}, "bad_quality", "field 'quality' is -0.1"),
        (ALPACA | {"quality": float("nan")}, "bad_quality", "is nan"),
        (ALPACA | {"quality": "good"}, "bad_quality", "is 'good'"),
        (ALPACA | {"quality": True}, "bad_quality", "is True"),
        (ALPACA | {"quality": 10**400}, "bad_quality", "expected a number"),
    ],
)
def test_refused_rows_say_why(row: Any, rule: str, reason: str) -> None:
    with pytest.raises(RowFault) as caught:
        made(row)
    assert caught.value.rule == rule
    assert re.search(reason, caught.value.reason), caught.value.reason


def test_a_missing_mapped_column_names_both() -> None:
    with pytest.raises(
        RowFault, match=r"field 'q' \(for 'instruction'\) is missing \(has \['x'\]\)"
    ):
        made({"x": "a"}, fields={"instruction": "q"})


def test_very_many_columns_are_not_all_named() -> None:
    with pytest.raises(RowFault, match=r"'c19'\] and 5 more\)"):
        made({f"c{index:02}": "" for index in range(25)})


# --- found by fuzzing


@pytest.mark.parametrize(
    ("field", "rule", "reason"),
    [
        ("id", "bad_id", "field 'id' is a number of 16610 bits, expected text"),
        ("negative", "not_a_flag", "field 'negative' is a int that cannot be written"),
        ("quality", "bad_quality", "field 'quality' is a int that cannot be written"),
    ],
)
def test_number_that_python_does_not_write(field: str, rule: str, reason: str) -> None:
    """Numbers of more than 4300 digits cannot become text."""
    with pytest.raises(RowFault) as caught:
        made({"instruction": "a", "output": "b", field: 10**5000})
    assert caught.value.rule == rule
    assert caught.value.reason.startswith(reason)


def test_reject_with_half_a_surrogate_pair_can_be_written() -> None:
    """A key of the row is quoted in the reason; no file can hold it as it is."""
    reject = Reject("qa", "f:1", "duplicate_key", "key '\ud800' appears twice", "{}", "f:1")
    line = reject_line(reject)
    assert json.loads(line.encode().decode()) == asdict(reject)
    plain = Reject("qa", "f:1", "empty_answer", "空", "{}", "f:1")
    assert "空" in reject_line(plain)
