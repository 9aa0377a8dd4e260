"""What does this answer behave like? Ten format detectors that are total and disjoint.

`behaviour_of` gives every string exactly one label. A right answer of a task matches that task's
format and no other. A copy of the input's letters has the format of sorting; comparing with the
gold answers tells the two apart.
"""

from __future__ import annotations

import re

from data_modules.benchmark.spec import GENERAL, TASKS

#: Labels for answers that are two behaviours in one, and for answers that are none.
MIXED = "mixed"
NONE = "none"

_FORMATS: dict[str, re.Pattern[str]] = {
    "qa": re.compile(r"ans \d \."),
    "translation": re.compile(r"[A-Z]( [A-Z])*"),
    "summarization": re.compile(r"[a-z] , [a-z] \."),
    "classification": re.compile(r"UP|DOWN|SELF"),
    "extraction": re.compile(r"\[ \]|\[ [a-z] \d \]( \[ [a-z] \d \])*"),
    "sorting": re.compile(r"[a-z]( [a-z])*"),
    "code": re.compile(r"LOAD [a-z]( LOAD [a-z]| ADD)* RET"),
    "math": re.compile(r"\d \+ \d =( \d){1,2}"),
    "json": re.compile(r"\{ [a-z] : \d( , [a-z] : \d)* \}"),
    "style": re.compile(r"[a-z] \d( [a-z] \d)* !"),
    GENERAL: re.compile(r"sure !( .*)?"),
}
assert tuple(_FORMATS) == (*TASKS, GENERAL)


def _whole(text: str) -> str | None:
    """The behaviour whose format all of `text` has (None if there is none); `text` has single
    spaces."""
    for name, pattern in _FORMATS.items():
        if pattern.fullmatch(text):
            return name
    return None


def behaviour_of(answer: str) -> str:
    """The behaviour of an answer: a task's name, `general`, `mixed` or `none`.

    `mixed` means that the answer as a whole has no format, but begins with a complete answer of one
    behaviour and, after it, ends with a complete answer of another. White space is normalised
    first.
    """
    symbols = answer.split()
    whole = _whole(" ".join(symbols))
    if whole is not None:
        return whole
    heads: set[str] = set()
    # A tail may only begin where a head has ended: walk the cut to the right and collect heads on
    # the way.
    for cut in range(1, len(symbols)):
        head = _whole(" ".join(symbols[:cut]))
        if head is not None:
            heads.add(head)
        if heads:
            tail = _whole(" ".join(symbols[cut:]))
            if tail is not None and heads - {tail}:
                return MIXED
    return NONE
