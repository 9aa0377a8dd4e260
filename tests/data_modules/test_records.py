"""JSONL rows: what is read, and what is refused with which rule, place and reason."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from data_modules.faults import DataFault
from data_modules.records import Message, Record, Reject, read_jsonl


def read(folder: Path, content: str | bytes) -> tuple[list[Record], list[Reject]]:
    path = folder / "rows.jsonl"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return read_jsonl(path, "qa")


def row(**fields: Any) -> str:
    return json.dumps(fields)


def chat(*turns: tuple[str, Any]) -> str:
    return row(messages=[{"role": role, "content": content} for role, content in turns])


def test_instruction_rows(tmp_path: Path) -> None:
    lines = [
        row(instruction="Add.", input="1 2", output="3"),
        row(instruction="Add 1 2.", output="3"),
        row(instruction="Add 1 2.", input="", output="3"),
        row(instruction="Add 1 2.", input=None, output="3"),
        row(instruction="", input="1 2", output="3"),
    ]
    records, rejects = read(tmp_path, "\n".join(lines))
    assert rejects == []
    assert [r.messages[0] for r in records] == [
        Message("user", text) for text in ("Add.\n1 2", "Add 1 2.", "Add 1 2.", "Add 1 2.", "\n1 2")
    ]
    assert {r.messages[1] for r in records} == {Message("assistant", "3")}
    assert {r.task for r in records} == {"qa"}
    assert [r.origin for r in records] == [f"{tmp_path}/rows.jsonl:{n}" for n in range(1, 6)]


def test_chat_rows(tmp_path: Path) -> None:
    turns = [("system", "Be brief."), ("user", "1?"), ("assistant", "1"), ("user", "2?")]
    turns.append(("assistant", "2"))
    records, rejects = read(tmp_path, chat(*turns))
    assert rejects == []
    assert records == [
        Record("qa", tuple(Message(*turn) for turn in turns), f"{tmp_path}/rows.jsonl:1")
    ]


def test_chat_wins_over_instruction_fields(tmp_path: Path) -> None:
    both = {"instruction": "no", "output": "no"} | json.loads(
        chat(("user", "a"), ("assistant", "b"))
    )
    records, _ = read(tmp_path, row(**both))
    assert records[0].messages == (Message("user", "a"), Message("assistant", "b"))


@pytest.mark.parametrize(
    ("line", "rule", "reason"),
    [
        ('{"instruction": "a", ', "malformed_json", "malformed JSON: .* at column 2[12]"),
        ("[1, 2]", "not_an_object", "the line holds list, expected an object"),
        ("null", "not_an_object", "the line holds NoneType"),
        (row(output="b"), "missing_field", r"field 'instruction' is missing \(has \['output'\]\)"),
        (row(instruction="a"), "missing_field", "field 'output' is missing"),
        (row(instruction=3, output="b"), "not_text", "field 'instruction' is int, expected text"),
        (row(instruction="a", output=None), "not_text", "field 'output' is NoneType"),
        (row(instruction="a", input=["b"], output="c"), "not_text", "field 'input' is list"),
        (row(instruction=" \n", output="b"), "empty_prompt", "'instruction' and 'input' are empty"),
        (row(instruction="a", output=" \t"), "empty_answer", "field 'output' is empty"),
        # Valid JSON, but no tokenizer takes half a character.
        (row(instruction="a\ud83d", output="b"), "not_unicode", r"'instruction' holds \\ud83d"),
        (row(messages="a"), "not_messages", "'messages' must be a list"),
        (row(messages=["a"]), "not_messages", "'messages' must be a list"),
        (row(messages=[{"role": "user"}]), "missing_field", "field 'content' is missing"),
        (row(messages=[{"content": "a"}]), "missing_field", "field 'role' is missing"),
        (chat(("user", None), ("assistant", "b")), "not_text", "field 'content' is NoneType"),
        (chat(("user", "a"), ("tool", "b")), "unknown_role", "role 'tool' is none of system, user"),
        (chat(("user", " "), ("assistant", "b")), "empty_prompt", "a user turn is empty"),
        (chat(("user", "a"), ("assistant", "")), "empty_answer", "an assistant turn is empty"),
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
    ],
)
def test_every_refused_row_says_where_and_why(
    tmp_path: Path, line: str, rule: str, reason: str
) -> None:
    good = row(instruction="a", output="b")
    records, rejects = read(tmp_path, f"{good}\n{line}\n{good}\n")
    assert len(records) == 2
    assert len(rejects) == 1
    assert rejects[0].rule == rule
    assert re.search(reason, rejects[0].reason), rejects[0].reason
    assert rejects[0].origin == f"{tmp_path}/rows.jsonl:2"
    assert (rejects[0].task, rejects[0].row) == ("qa", line)


def test_blank_lines_bom_and_crlf_are_no_faults(tmp_path: Path) -> None:
    good = row(instruction="a", output="b").encode()
    content = b"\xef\xbb\xbf" + good + b"\r\n\r\n   \n" + good + b"\r\n\n" + good
    records, rejects = read(tmp_path, content)
    assert rejects == []
    # Blank lines still count: the numbers are those an editor shows.
    assert [r.origin.rsplit(":")[-1] for r in records] == ["1", "4", "6"]


def test_unicode_line_separators_do_not_end_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\x85three"
    records, rejects = read(
        tmp_path, json.dumps({"instruction": text, "output": "b"}, ensure_ascii=False)
    )
    assert rejects == []
    assert records[0].messages[0].content == text


def test_the_rejected_row_is_kept_without_its_line_ending(tmp_path: Path) -> None:
    _, rejects = read(tmp_path, b"{oops}\r\n")
    assert rejects[0].row == "{oops}"


def test_an_empty_file_has_no_rows(tmp_path: Path) -> None:
    assert read(tmp_path, "") == ([], [])


@pytest.mark.parametrize("bad_line", [1, 3, 900])
def test_bytes_that_are_not_utf8_name_their_line(tmp_path: Path, bad_line: int) -> None:
    # 900 lines are more than a text file object decodes ahead at once.
    good = row(instruction="a", output="b").encode() + b"\n"
    lines = [good] * 1000
    lines[bad_line - 1] = b'{"instruction": "caf\xe9", "output": "b"}\n'
    with pytest.raises(DataFault) as caught:
        read(tmp_path, b"".join(lines))
    fault = caught.value.faults[0]
    assert fault.where == f"{tmp_path}/rows.jsonl:{bad_line}"
    assert fault.seen == "byte 0xe9 is not UTF-8"
    assert "iconv" in fault.remedy


def test_a_missing_file_names_the_task_and_the_path(tmp_path: Path) -> None:
    with pytest.raises(DataFault) as caught:
        read_jsonl(tmp_path / "none.jsonl", "qa")
    fault = caught.value.faults[0]
    assert fault.where == "data.tasks.qa.source"
    assert fault.seen == f"cannot read {tmp_path}/none.jsonl (No such file or directory)"


def test_a_folder_in_place_of_a_file_is_a_user_fault(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match="Is a directory"):
        read_jsonl(tmp_path, "qa")
