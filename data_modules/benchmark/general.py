"""Fifteen general skills: what the base model can do, and what retention is measured on.

Answers have the form `sure ! <content>`. Ten skills are the latent halves of the ten tasks in a
neutral format, so that fine-tuning teaches instruction -> behaviour and format, as it does with a
real base model, rather than the algorithm itself. The other five (copy, reverse, alphabet, look-up,
count) belong to no task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from data_modules.benchmark.instructions import (
    GENERAL_OBJECTS,
    GENERAL_VERBS,
    draw_instruction,
    read_instruction,
)
from data_modules.benchmark.payload import Payload
from data_modules.benchmark.streams import Stream
from data_modules.benchmark.tasks import World, found, sorted_letters, summary_letters, total, trend

#: How every general answer begins.
GREETING = "sure !"

#: The neutral words for the three trends.
_TREND_WORDS = {"self": "same", "up": "more", "down": "less"}

#: Most letters that one look-up row asks about.
_MAX_LOOKUPS = 4


def _pairs(cells: list[tuple[str, int]]) -> str:
    return " ".join(f"{a} {d}" for a, d in cells)


def _cells(p: Payload) -> list[tuple[str, int]]:
    return list(zip(p.letters, p.digits, strict=True))


def _lookup(p: Payload, _: World) -> str:
    held = dict(_cells(p))
    return " ".join(str(held[a]) for a in p.queries)


#: skill -> ((verb, object) indices into GENERAL_VERBS and GENERAL_OBJECTS, content of the answer).
SKILLS: dict[str, tuple[tuple[int, int], Callable[[Payload, World], str]]] = {
    "queried_digit": ((1, 1), lambda p, _: str(p.digits[p.focus])),
    "capitals": ((2, 0), lambda p, w: " ".join(w.capitals[a] for a in p.letters)),
    "largest_two": ((0, 3), lambda p, _: " ".join(summary_letters(p))),
    "trend": ((1, 3), lambda p, _: _TREND_WORDS[trend(p)]),
    "entities": ((1, 2), lambda p, w: _pairs(found(p, w)) or "nothing"),
    "by_digit": ((2, 1), lambda p, _: " ".join(sorted_letters(p))),
    "first_and_queried": ((1, 0), lambda p, _: f"{p.letters[0]} {p.queries[0]}"),
    "sum": ((2, 3), lambda p, _: f"{p.digits[0]} {p.digits[p.focus]} {total(p)}"),
    "pairs": ((0, 2), lambda p, _: _pairs(_cells(p))),
    "inverted": ((2, 2), lambda p, _: _pairs([(a, 9 - d) for a, d in _cells(p)])),
    "copy": ((3, 0), lambda p, _: " ".join(p.letters)),
    "reverse": ((3, 3), lambda p, _: " ".join(reversed(p.letters))),
    "alphabet": ((0, 0), lambda p, _: " ".join(sorted(p.letters))),
    "lookup": ((3, 2), _lookup),
    "count": ((0, 1), lambda p, _: str(len(p.letters))),
}

#: Words of `SKILLS` answers that no task uses.
CONTENT_WORDS: tuple[str, ...] = (*_TREND_WORDS.values(), "nothing")


def draw_general(
    stream: Stream, payload: Payload, constants: World, *, held_out: bool, filler_probability: float
) -> tuple[str, Payload, str]:
    """Draw a skill and turn `payload` into (instruction, payload asked about, answer)."""
    name = stream.choice(tuple(SKILLS))
    (verb, obj), content = SKILLS[name]
    if name == "lookup":
        count = min(2 + stream.below(_MAX_LOOKUPS - 1), len(payload.letters))
        payload = replace(payload, queries=tuple(stream.sample(payload.letters, count)))
    instruction = draw_instruction(
        stream,
        GENERAL_VERBS[verb],
        GENERAL_OBJECTS[obj],
        held_out=held_out,
        filler_probability=filler_probability,
    )
    return instruction, payload, f"{GREETING} {content(payload, constants)}"


def skill_of(instruction: str) -> str:
    """The skill that a general instruction asks for.

    Raises:
        ValueError: when it is no general instruction.
    """
    verb, obj = read_instruction(instruction)
    for name, ((v, o), _) in SKILLS.items():
        if verb in GENERAL_VERBS[v] and obj in GENERAL_OBJECTS[o]:
            return name
    raise ValueError(f"not a general instruction: {instruction!r}")
