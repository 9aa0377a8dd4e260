"""The ten specialised tasks: what they are called, and their right answers.

Every output has a format of its own (see `detectors`). What makes the tasks unequally hard is the
skill: qa is one look-up, sorting and math need comparisons or sums over the whole payload.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from data_modules.benchmark.payload import CAPITALS, LETTERS, Payload
from data_modules.benchmark.spec import GENERAL, TASKS
from data_modules.benchmark.streams import Stream

#: Letters in the entity set that extraction looks for.
_ENTITIES = 9

#: Surface cues: a decoration that says nothing about the payload but goes with the task in most
#: training rows. Five cues for ten tasks, so a cue alone never tells the task. `?` is the question
#: mark of questions and decisions.
CUES: dict[str, str] = {
    "qa": "?",
    "classification": "?",
    "translation": ";",
    "style": ";",
    "summarization": "&",
    "extraction": "&",
    "sorting": "%",
    "math": "%",
    "code": "$",
    "json": "$",
}


@dataclass(frozen=True)
class World:
    """Constants that no row states and training has to teach.

    Attributes:
        capitals: the letter -> capital translation, a bijection.
        entities: the letters that extraction looks for.
    """

    capitals: dict[str, str]
    entities: frozenset[str]


def world(seed: int) -> World:
    """The hidden constants of a seed."""
    capitals = Stream("bench", seed, "translation").sample(CAPITALS, len(CAPITALS))
    entities = Stream("bench", seed, "entities").sample(LETTERS, _ENTITIES)
    return World(dict(zip(LETTERS, capitals, strict=True)), frozenset(entities))


def summary_letters(p: Payload) -> list[str]:
    """The letters of the two largest digits, in input order."""
    top = sorted(p.digits)[-2:]
    return [a for a, d in zip(p.letters, p.digits, strict=True) if d in top]


def sorted_letters(p: Payload) -> list[str]:
    """The letters by ascending digit."""
    return [a for _, a in sorted(zip(p.digits, p.letters, strict=True))]


def trend(p: Payload) -> str:
    """`self` if the first cell is queried, else whether the last digit is above (`up`) or below
    (`down`) the first."""
    if p.focus == 0:
        return "self"
    return "up" if p.digits[-1] > p.digits[0] else "down"


def total(p: Payload) -> str:
    """First digit plus queried digit, its decimal digits as separate symbols."""
    return " ".join(str(p.digits[0] + p.digits[p.focus]))


def found(p: Payload, w: World) -> list[tuple[str, int]]:
    """The cells whose letter is an entity."""
    return [(a, d) for a, d in zip(p.letters, p.digits, strict=True) if a in w.entities]


def _extraction(p: Payload, w: World) -> str:
    return " ".join(f"[ {a} {d} ]" for a, d in found(p, w)) or "[ ]"


def _json(p: Payload, _: World) -> str:
    pairs = " , ".join(f"{a} : {d}" for a, d in zip(p.letters, p.digits, strict=True))
    return f"{{ {pairs} }}"


def _style(p: Payload, _: World) -> str:
    return " ".join(f"{a} {9 - d}" for a, d in zip(p.letters, p.digits, strict=True)) + " !"


@dataclass(frozen=True)
class Task:
    """A specialised task.

    Attributes:
        name: its name in `spec.TASKS`.
        signature: (verb, object) indices into `instructions.VERBS` and `OBJECTS`.
        gold: the right answer to a payload.
        tag: the boundary symbol put before the instruction.
        constraint: the boundary text put after the input.
        cue: its surface cue.
    """

    name: str
    signature: tuple[int, int]
    gold: Callable[[Payload, World], str]
    tag: str
    constraint: str
    cue: str


#: name -> ((verb, object), gold). The pairs are those of a 4 x 4 grid, each verb and object serving
#: several tasks.
_DEFINITIONS: dict[str, tuple[tuple[int, int], Callable[[Payload, World], str]]] = {
    "qa": ((0, 0), lambda p, _: f"ans {p.digits[p.focus]} ."),
    "translation": ((0, 1), lambda p, w: " ".join(w.capitals[a] for a in p.letters)),
    "summarization": ((1, 0), lambda p, _: " , ".join(summary_letters(p)) + " ."),
    "classification": ((1, 1), lambda p, _: trend(p).upper()),
    "extraction": ((0, 2), _extraction),
    "sorting": ((2, 0), lambda p, _: " ".join(sorted_letters(p))),
    "code": ((2, 2), lambda p, _: f"LOAD {p.letters[0]} LOAD {p.queries[0]} ADD RET"),
    "math": ((3, 1), lambda p, _: f"{p.digits[0]} + {p.digits[p.focus]} = {total(p)}"),
    "json": ((1, 2), _json),
    "style": ((3, 3), _style),
}


def tag_of(task: str) -> str:
    """The boundary tag of a task; empty for `general`, which must stay what a user types."""
    return "" if task == GENERAL else f"<tag_{task}>"


def constraint_of(task: str) -> str:
    """The boundary constraint of a task; empty for `general`."""
    return "" if task == GENERAL else f"#only_{task}"


TASK: dict[str, Task] = {
    name: Task(name, signature, gold, tag_of(name), constraint_of(name), CUES[name])
    for name, (signature, gold) in _DEFINITIONS.items()
}
assert tuple(TASK) == TASKS


def golds(payload: Payload, constants: World) -> dict[str, str]:
    """The right answers of all ten tasks to one payload: what a semantic leak is measured
    against."""
    return {name: task.gold(payload, constants) for name, task in TASK.items()}
