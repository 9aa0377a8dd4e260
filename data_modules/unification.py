"""One output format per task: the same rules make training answers and check generated ones.

The inside of a code fence is never changed. All rules together are applied until nothing changes any
more, so that the result of :func:`unify` is its own result.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import replace

from data_modules.cleaning.behaviours import LIST_MARKER
from data_modules.cleaning.code_signs import code_language
from data_modules.config import TaskConfig, Unification
from data_modules.records import Message, Record

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})([^`]*)$")
#: Passes after which rules that still disagree are taken as they stand; two are the rule.
_MOST_PASSES = 8


def unify(text: str, task: TaskConfig) -> str:
    """A text in the task's format; ``unify(unify(text)) == unify(text)``."""
    return _fixpoint(text, task, [rule for rule in _RULES if rule in task.unify])


def unified(record: Record, task: TaskConfig) -> Record:
    """A record whose right answers are in the task's format; a wrong one stays as it is."""
    if not task.unify or record.negative:
        return record
    messages = tuple(
        Message(one.role, unify(one.content, task)) if one.role == "assistant" else one
        for one in record.messages
    )
    return record if messages == record.messages else replace(record, messages=messages)


def violations(text: str, task: TaskConfig) -> list[str]:
    """Names of the task's rules that would change the text, each taken alone."""
    return [
        rule.value
        for rule in _RULES
        if rule in task.unify and _fixpoint(text, task, [rule]) != text
    ]


def _fixpoint(text: str, task: TaskConfig, rules: Iterable[Unification]) -> str:
    for _ in range(_MOST_PASSES):
        before = text
        for rule in rules:
            text = _RULES[rule](text, task)
        if text == before:
            break
    return text


def split_fences(text: str) -> list[tuple[bool, str]]:
    """A text as ``(is a code fence, lines)`` pieces, in order; joined with line breaks they are the text.

    A fence runs from its opening to its closing line, or to the end where it has none.
    """
    pieces: list[tuple[bool, str]] = []
    lines: list[str] = []
    mark = ""
    for line in text.split("\n"):
        match = _FENCE.match(line)
        if not mark and match:
            if lines:
                pieces.append((False, "\n".join(lines)))
            lines, mark = [line], match.group(1)
        elif mark and match and match.group(1).startswith(mark) and not match.group(2).strip():
            pieces.append((True, "\n".join([*lines, line])))
            lines, mark = [], ""
        else:
            lines.append(line)
    if lines:
        pieces.append((bool(mark), "\n".join(lines)))
    return pieces


def _outside_fences(text: str, change: Callable[[str], str]) -> str:
    return "\n".join(piece if is_fence else change(piece) for is_fence, piece in split_fences(text))


# ---- whitespace

# four blanks and more are a Markdown code block
_LEADING_BLANKS = re.compile(r"\A {1,3}(?=\S)")


def _whitespace(text: str, _: TaskConfig) -> str:
    pieces = split_fences(text.strip("\r\n") if text.strip() else "")
    tidied = [piece if is_fence else _tidy(piece) for is_fence, piece in pieces]
    if not pieces[0][0]:
        tidied[0] = _LEADING_BLANKS.sub("", tidied[0].lstrip("\n"), count=1)
    if not pieces[-1][0]:
        tidied[-1] = tidied[-1].rstrip()
    return "\n".join(tidied).strip("\n")


def _tidy(text: str) -> str:
    """No trailing blanks, no two empty lines in a row."""
    lines = [line.rstrip() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")]
    kept = [line for line, before in zip(lines, ["x", *lines], strict=False) if line or before]
    return "\n".join(kept)


# ---- code_fence


def _code_fence(text: str, task: TaskConfig) -> str:
    pieces = split_fences(text)
    if any(is_fence for is_fence, _ in pieces):
        if any(not is_fence and piece.strip() for is_fence, piece in pieces):
            return text  # prose with code in it
        return "\n".join(
            _with_language(piece, task.code_language) if is_fence else piece
            for is_fence, piece in pieces
        )
    code = text.strip("\n")
    language = "" if "```" in text else code_language(code, task.code_language)
    return f"```{language}\n{code.rstrip()}\n```" if language else text


def _with_language(fence: str, language: str) -> str:
    first, _, rest = fence.partition("\n")
    match = _FENCE.match(first)
    assert match is not None, "a fence opens with its mark"
    if match.group(2).strip() or not rest:
        return fence
    code = rest.rpartition("\n")[0]
    return f"{first.rstrip()}{code_language(code, language) or language}\n{rest}"


# ---- numbered_list

_ITEM = re.compile(rf"^{LIST_MARKER}")
_RULER = re.compile(r"^[-*+•][-*+• \t]*$")
_CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩⑪⑫⑬⑭⑮⑯⑰⑱⑲⑳"


def _numbered_list(text: str, _: TaskConfig) -> str:
    pieces = split_fences(text)
    count = sum(_number_of(line) >= 0 for fence, p in pieces if not fence for line in p.split("\n"))
    return "\n".join(
        piece if is_fence else _number_items(piece, count) for is_fence, piece in pieces
    )


def _number_of(line: str) -> int:
    """The number of a top-level list item, 0 for a bullet, -1 where the line is none."""
    match = _ITEM.match(line)
    if match is None or _RULER.match(line):
        return -1
    if match.group(1):
        return int(match.group(1))
    return _CIRCLED.index(match.group(2)) + 1 if match.group(2) else 0


def _number_items(text: str, numbered_in_text: int) -> str:
    """Number the lists of a text without fences.

    A list is a run of top-level items with nothing but empty and indented lines between. Numbers keep
    their value, unless all are the same ("1. 1. 1."); bullets under numbers are nested and stay, and
    so does a lone item.
    """
    lines = text.split("\n")
    run: list[int] = []
    for place, line in enumerate([*lines, "end"]):
        if place < len(lines) and (not line.strip() or line[0] in " \t　"):
            continue
        if place < len(lines) and _number_of(line) >= 0:
            run.append(place)
            continue
        _number_run(lines, run, numbered_in_text)
        run = []
    return "\n".join(lines)


def _number_run(lines: list[str], run: list[int], numbered_in_text: int) -> None:
    numbers = {place: _number_of(lines[place]) for place in run}
    numbered = [place for place in run if numbers[place] > 0]
    if numbered:
        lazy = len(numbered) > 1 and len({numbers[place] for place in numbered}) == 1
        if numbered_in_text > 1:
            for index, place in enumerate(numbered, start=1):
                _set_number(lines, place, index if lazy else numbers[place])
    elif len(run) > 1:
        for index, place in enumerate(run, start=1):
            _set_number(lines, place, index)


def _set_number(lines: list[str], place: int, number: int) -> None:
    match = _ITEM.match(lines[place])
    assert match is not None, "runs are of items"
    lines[place] = f"{number}. {lines[place][match.end() :]}"


# ---- bold

_HTML_BOLD = re.compile(r"<(b|strong)>(?=[^\s<])([^<\n]*[^\s<])</\1>", re.I)
_UNDERLINED = re.compile(r"(?<![\w_*.`])__(?=[^\s_])((?:(?!__)[^\n`])*?[^\s_])__(?![\w_(`])")
_INLINE_CODE = re.compile(r"(`+[^`\n]+`+)")
_DUNDERS = frozenset(
    name.strip("_")
    for kind in (object, int, dict, list, type, float, set)
    for name in dir(kind)
    if name.startswith("__")
) | {"main", "name", "file", "all", "version", "enter", "exit", "next", "future", "slots", "call"}


def _bold(text: str, _: TaskConfig) -> str:
    def underlined(match: re.Match[str]) -> str:
        # `__init__` is a name, not bold type
        return match.group() if match.group(1) in _DUNDERS else f"**{match.group(1)}**"

    def change(piece: str) -> str:
        parts = _INLINE_CODE.split(piece)
        for place in range(0, len(parts), 2):
            part = _HTML_BOLD.sub(r"**\2**", parts[place])
            parts[place] = _UNDERLINED.sub(underlined, part)
        return "".join(parts)

    return _outside_fences(text, change)


#: In the order in which they are applied: what becomes code is left alone by the others.
_RULES: dict[Unification, Callable[[str, TaskConfig], str]] = {
    Unification.code_fence: _code_fence,
    Unification.bold: _bold,
    Unification.numbered_list: _numbered_list,
    Unification.whitespace: _whitespace,
}
assert set(_RULES) == set(Unification)
