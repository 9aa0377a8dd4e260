"""One row of a file -> a :class:`Record`, whatever format the row is in.

=========== ==============================================================================
alpaca      ``instruction``, ``input`` (may be absent or empty), ``output``
completion  ``prompt``, ``completion`` or ``response``
messages    ``messages: [{role, content}, ...]``, role one of system, user, assistant
sharegpt    ``conversations: [{from, value}, ...]``, from one of human, user, gpt, assistant, system
=========== ==============================================================================

Any row may also have ``id``, ``negative``, ``behaves_like``, ``rejected``, ``quality`` and ``tests``
(Python assertions that evaluation runs behind an answer that is code). Null means absent. CSV knows
only text, so flags and numbers are also read from text, and turns from JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from data_modules.config import RowFormat, SourceConfig
from data_modules.records import ROLES, Message, Record

#: Names that ``SourceConfig.fields`` may map to a row's own columns.
FIELDS = (
    *("instruction", "input", "output", "prompt", "completion", "response"),
    *("messages", "role", "content", "conversations", "from", "value"),
    *("id", "negative", "behaves_like", "rejected", "quality", "tests"),
)

# The fields that tell a format, in the order in which auto looks for them.
_MARKS = {
    RowFormat.messages: ("messages",),
    RowFormat.sharegpt: ("conversations",),
    RowFormat.alpaca: ("instruction", "input", "output"),
    RowFormat.completion: ("prompt", "completion", "response"),
}
_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}
_OWN_ROLES = {role: role for role in ROLES}
_FLAGS = {"true": True, "1": True, "false": False, "0": False, "": False}
_COLUMNS_SHOWN = 20
_ID_BITS = 256


class RowFault(Exception):
    """A row that cannot be used.

    Attributes:
        rule: short name under which such rows are counted, such as ``missing_field``.
        reason: what is wrong with this row.
    """

    def __init__(self, rule: str, reason: str) -> None:
        super().__init__(rule, reason)
        self.rule, self.reason = rule, reason


def record_of(row: Any, task: str, source_name: str, source: SourceConfig, origin: str) -> Record:
    """Read one row.

    Args:
        row: what the file holds there, an object if the row is any good.
        origin: where the row stands, ``file:line``.

    Raises:
        RowFault: the row is not usable.
    """
    if not isinstance(row, dict):
        found = type(row).__name__
        raise RowFault("not_an_object", f"the line holds {found}, expected an object")
    fields = source.fields
    instruction: str | None = None
    kind = source.format if source.format is not RowFormat.auto else _format_of(row, fields)
    if kind is RowFormat.alpaca:
        instruction, messages = _alpaca(row, fields)
    elif kind is RowFormat.completion:
        messages = _completion(row, fields)
    else:
        messages = _conversation(row, kind, source)
    negative = _negative(row, fields)
    return Record(
        task=task,
        messages=messages,
        origin=origin,
        row_id=id_of(row, fields) or origin,
        source=source_name,
        instruction=instruction,
        negative=negative,
        behaves_like=_optional_text(row, "behaves_like", fields),
        rejected=_rejected(row, fields, messages[-1].content, negative),
        quality=_quality(row, fields),
        tests=_optional_text(row, "tests", fields),
    )


def _format_of(row: dict[str, Any], fields: Mapping[str, str]) -> RowFormat:
    """The format whose fields the row has; formats with mapped fields come first."""
    kinds = list(_MARKS)
    if fields:
        kinds.sort(key=lambda kind: not any(mark in fields for mark in _MARKS[kind]))
    # Tables have every column in every row, null where a row does not use it.
    for is_there in (lambda column: row.get(column) is not None, row.__contains__):
        for position in range(3):
            for kind in kinds:
                marks = _MARKS[kind]
                if position < len(marks) and is_there(fields.get(marks[position], marks[position])):
                    return kind
    return kinds[0] if fields and set(fields) & set(_MARKS[kinds[0]]) else RowFormat.alpaca


def _alpaca(
    row: dict[str, Any], fields: Mapping[str, str]
) -> tuple[str | None, tuple[Message, ...]]:
    instruction, output = _text(row, "instruction", fields), _text(row, "output", fields)
    given = _optional_text(row, "input", fields)
    prompt = f"{instruction}\n{given}" if given.strip() else instruction
    if not prompt.strip():
        names = f"'{_column('instruction', fields)}' and '{_column('input', fields)}'"
        raise RowFault("empty_prompt", f"both {names} are empty")
    if not output.strip():
        raise RowFault("empty_answer", f"field '{_column('output', fields)}' is empty")
    is_apart = bool(given.strip() and instruction.strip())
    turns = (Message("user", prompt), Message("assistant", output))
    return (instruction if is_apart else None), turns


def _completion(row: dict[str, Any], fields: Mapping[str, str]) -> tuple[Message, ...]:
    # "completion" unless only the row's "response" says anything
    names = [name for name in ("completion", "response") if _column(name, fields) in row]
    said = [name for name in names if row[_column(name, fields)] is not None]
    answer = (said or names or ["completion"])[0]
    prompt, output = _text(row, "prompt", fields), _text(row, answer, fields)
    if not prompt.strip():
        raise RowFault("empty_prompt", f"field '{_column('prompt', fields)}' is empty")
    if not output.strip():
        raise RowFault("empty_answer", f"field '{_column(answer, fields)}' is empty")
    return (Message("user", prompt), Message("assistant", output))


def _conversation(
    row: dict[str, Any], kind: RowFormat, source: SourceConfig
) -> tuple[Message, ...]:
    fields = source.fields
    field = "messages" if kind is RowFormat.messages else "conversations"
    column = _column(field, fields)
    if column not in row:
        raise _missing(row, field, fields)
    turns = row[column]
    if isinstance(turns, str):
        with suppress(ValueError, RecursionError):  # plain text is refused below
            turns = json.loads(turns)
    if source.format is RowFormat.auto and isinstance(turns, list) and turns:
        # Both names are in use for both kinds of turns.
        kind = _turn_format(turns[0], kind, fields)
    names, roles = ("role", "content"), _OWN_ROLES
    if kind is RowFormat.sharegpt:
        names, roles = ("from", "value"), _SHAREGPT_ROLES
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        shape = "{" + ", ".join(_column(name, fields) for name in names) + "}"
        raise RowFault("not_messages", f"'{column}' must be a list of {shape} objects")
    said = [(_text(turn, names[0], fields), _text(turn, names[1], fields)) for turn in turns]
    return _checked_turns(said, roles)


def _turn_format(turn: Any, kind: RowFormat, fields: Mapping[str, str]) -> RowFormat:
    if isinstance(turn, dict):
        is_own, is_sharegpt = _column("role", fields) in turn, _column("from", fields) in turn
        if is_own != is_sharegpt:
            return RowFormat.messages if is_own else RowFormat.sharegpt
    return kind


def _checked_turns(said: list[tuple[str, str]], roles: Mapping[str, str]) -> tuple[Message, ...]:
    messages = []
    for role, content in said:
        if role not in roles:
            raise RowFault("unknown_role", f"role '{role}' is none of {', '.join(roles)}")
        messages.append(Message(roles[role], content))
        if roles[role] == "user" and not content.strip():
            raise RowFault("empty_prompt", "a user turn is empty")
        if roles[role] == "assistant" and not content.strip():
            raise RowFault("empty_answer", "an assistant turn is empty")
    spoken = [message.role for message in messages if message.role != "system"]
    if any(message.role == "system" for message in messages[1:]):
        raise RowFault("misplaced_system", "a system turn must be the first")
    if not spoken or spoken != ["user", "assistant"] * (len(spoken) // 2):
        raise RowFault(
            "turn_order", f"turns must alternate user, assistant and end on assistant; saw {spoken}"
        )
    return tuple(messages)


def id_of(row: Any, fields: Mapping[str, str]) -> str:
    """The row's own ``id`` as text; empty if it has none.

    Raises:
        RowFault: the id is neither text nor a whole number.
    """
    value = row.get(_column("id", fields)) if isinstance(row, dict) else None
    if isinstance(value, int) and not isinstance(value, bool):
        if value.bit_length() > _ID_BITS:  # Python refuses to write numbers of 4300 digits
            reason = f"field '{_column('id', fields)}' is a number of {value.bit_length()} bits"
            raise RowFault("bad_id", f"{reason}, expected text or at most {_ID_BITS}")
        return str(value)
    return _optional_text(row, "id", fields) if value is not None else ""


def _negative(row: dict[str, Any], fields: Mapping[str, str]) -> bool:
    column = _column("negative", fields)
    value = row.get(column)
    if value is None or isinstance(value, bool):
        return bool(value)
    is_short = isinstance(value, str) or (isinstance(value, int) and value in (0, 1))
    flag = _FLAGS.get(str(value).strip().lower()) if is_short else None
    if flag is None:
        raise RowFault("not_a_flag", f"field '{column}' is {_seen(value)}, expected true or false")
    return flag


def _seen(value: Any) -> str:
    """A value for a message."""
    try:
        return f"{value!r:.80}"
    except (ValueError, RecursionError):  # a number of 4300 digits, lists in lists in lists
        return f"a {type(value).__name__} that cannot be written"


def _rejected(
    row: dict[str, Any], fields: Mapping[str, str], answer: str, negative: bool
) -> str | None:
    text = _optional_text(row, "rejected", fields)
    if not text.strip():
        return None
    column = _column("rejected", fields)
    if text == answer:
        raise RowFault("rejected_is_answer", f"field '{column}' is the same text as the answer")
    if negative:
        reason = f"a negative row has no right answer for '{column}' to stand beside"
        raise RowFault("rejected_of_negative", reason)
    return text


def _quality(row: dict[str, Any], fields: Mapping[str, str]) -> float | None:
    column = _column("quality", fields)
    value = row.get(column)
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    try:
        number = float(value) if isinstance(value, str | int | float) else -1.0
    except (ValueError, OverflowError):
        number = -1.0
    # also false for NaN
    if isinstance(value, bool) or not 0 <= number <= 1:
        reason = f"field '{column}' is {_seen(value)}, expected a number from 0 to 1"
        raise RowFault("bad_quality", reason)
    return number


def _column(field: str, fields: Mapping[str, str]) -> str:
    return fields.get(field, field)


def _optional_text(row: dict[str, Any], field: str, fields: Mapping[str, str]) -> str:
    return "" if row.get(_column(field, fields)) is None else _text(row, field, fields)


def _text(row: dict[str, Any], field: str, fields: Mapping[str, str]) -> str:
    column = _column(field, fields)
    if column not in row:
        raise _missing(row, field, fields)
    value = row[column]
    if not isinstance(value, str):
        raise RowFault("not_text", f"field '{column}' is {type(value).__name__}, expected text")
    if "\0" in value:
        place = value.index("\0") + 1
        raise RowFault("nul_byte", f"field '{column}' holds a NUL byte at character {place}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        half = f"\\u{ord(value[error.start]):04x}"
        reason = f"field '{column}' holds {half}, half a surrogate pair without its other half"
        raise RowFault("not_unicode", reason) from None
    return value


def _missing(row: dict[str, Any], field: str, fields: Mapping[str, str]) -> RowFault:
    column = _column(field, fields)
    name = f"'{column}'" if column == field else f"'{column}' (for '{field}')"
    return RowFault("missing_field", f"field {name} is missing (has {columns_of(row)})")


def columns_of(row: Mapping[str, Any]) -> str:
    """The row's columns for a message, sorted; not all of very many."""
    names = sorted(row)
    if len(names) <= _COLUMNS_SHOWN:
        return str(names)
    return f"{names[:_COLUMNS_SHOWN]} and {len(names) - _COLUMNS_SHOWN} more"
