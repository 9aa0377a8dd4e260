"""JSONL rows -> :class:`Record`: one conversation of one task, with the place it came from.

Two row formats are read: ``{"instruction", "input"?, "output"}`` and ``{"messages": [{"role",
"content"}, ...]}``. A row that is not usable becomes a :class:`Reject` with its reason.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_modules.faults import DataFault, Fault

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; ``role`` is one of :data:`ROLES`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Record:
    """One usable row."""

    task: str
    messages: tuple[Message, ...]
    origin: str  # file:line


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that is not used, with the rule that refused it."""

    task: str
    origin: str
    rule: str
    reason: str
    row: str


class _RowFault(Exception):
    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(reason)
        self.rule, self.reason = rule, reason


def _text(row: dict[str, Any], key: str) -> str:
    if key not in row:
        raise _RowFault("missing_field", f"field '{key}' is missing (has {sorted(row)})")
    if not isinstance(row[key], str):
        raise _RowFault("not_text", f"field '{key}' is {type(row[key]).__name__}, expected text")
    try:
        row[key].encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(row[key][error.start]):04x}"
        reason = f"field '{key}' holds {half}, half a surrogate pair without its other half"
        raise _RowFault("not_unicode", reason) from None
    return row[key]


def _messages_of(row: Any) -> tuple[Message, ...]:
    if not isinstance(row, dict):
        raise _RowFault("not_an_object", f"the line holds {type(row).__name__}, expected an object")
    if "messages" in row:
        return _chat(row["messages"])
    instruction, output = _text(row, "instruction"), _text(row, "output")
    given = _text(row, "input") if row.get("input") is not None else ""
    prompt = f"{instruction}\n{given}" if given.strip() else instruction
    if not prompt.strip():
        raise _RowFault("empty_prompt", "both 'instruction' and 'input' are empty")
    if not output.strip():
        raise _RowFault("empty_answer", "field 'output' is empty")
    return (Message("user", prompt), Message("assistant", output))


def _chat(turns: Any) -> tuple[Message, ...]:
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        raise _RowFault("not_messages", "'messages' must be a list of {role, content} objects")
    messages = tuple(Message(_text(turn, "role"), _text(turn, "content")) for turn in turns)
    for message in messages:
        if message.role not in ROLES:
            raise _RowFault("unknown_role", f"role '{message.role}' is none of {', '.join(ROLES)}")
        if message.role == "user" and not message.content.strip():
            raise _RowFault("empty_prompt", "a user turn is empty")
        if message.role == "assistant" and not message.content.strip():
            raise _RowFault("empty_answer", "an assistant turn is empty")
    spoken = [message.role for message in messages if message.role != "system"]
    if [m.role for m in messages[1:]].count("system"):
        raise _RowFault("misplaced_system", "a system turn must be the first")
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise _RowFault(
            "turn_order", f"turns must alternate user, assistant and end on assistant; saw {spoken}"
        )
    return messages


def read_jsonl(path: Path, task: str) -> tuple[list[Record], list[Reject]]:
    """Read one JSONL file of one task.

    Returns:
        The usable records in file order, and a reject for every other non-blank line.

    Raises:
        DataFault: the file does not exist, is not readable or is not UTF-8.
    """
    records: list[Record] = []
    rejects: list[Reject] = []
    for number, line in _lines(path, task):
        origin = f"{path}:{number}"
        try:
            row = json.loads(line)
            records.append(Record(task, _messages_of(row), origin))
        except json.JSONDecodeError as error:
            reason = f"malformed JSON: {error.msg} at column {error.colno}"
            rejects.append(Reject(task, origin, "malformed_json", reason, line))
        except _RowFault as fault:
            rejects.append(Reject(task, origin, fault.rule, fault.reason, line))
    return records, rejects


def _lines(path: Path, task: str) -> Iterator[tuple[int, str]]:
    number = 0
    try:
        # Decoded line by line: a text file object decodes ahead and would name the wrong line.
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
                if line.strip():
                    yield number, line.rstrip("\r\n")
    except OSError as error:
        raise DataFault(
            Fault(
                f"data.tasks.{task}.source",
                f"cannot read {path} ({error.strerror})",
                "every task needs a readable JSONL file",
                "Correct the path, or data.root, which it is relative to.",
            )
        ) from error
    except UnicodeDecodeError as error:
        raise DataFault(
            Fault(
                f"{path}:{number}",
                f"byte {error.object[error.start]:#04x} is not UTF-8",
                "data files are UTF-8",
                "Convert the file, for example with iconv -t UTF-8.",
            )
        ) from error
