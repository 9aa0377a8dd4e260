"""Compositional instructions: a verb and an object, with synonyms and fillers.

A task is named by a *pair* whose words are shared with other tasks, so no single word gives it
away. Each word has three synonyms. Of the nine ways to say a pair five are trained on and four are
held out for the paraphrase set: new sentences without new words.
"""

from __future__ import annotations

from data_modules.benchmark.streams import Stream

#: Words of the specialised tasks: VERBS[v] and OBJECTS[o] are the synonyms of verb v and object o.
VERBS = (
    ("give", "tell", "say"),
    ("name", "state", "report"),
    ("order", "arrange", "build"),
    ("rework", "change", "redo"),
)
OBJECTS = (
    ("value", "reading", "figure"),
    ("form", "kind", "shape"),
    ("items", "parts", "pieces"),
    ("tone", "manner", "voice"),
)

#: Words of the general skills: none in common with the tasks, as the base model must not know the
#: tasks' names.
GENERAL_VERBS = (
    ("show", "display", "present"),
    ("find", "seek", "locate"),
    ("work", "figure-out", "derive"),
    ("echo", "recite", "narrate"),
)
GENERAL_OBJECTS = (
    ("letters", "glyphs", "signs"),
    ("digits", "numerals", "amounts"),
    ("pairs", "couples", "matches"),
    ("gist", "essence", "core"),
)

FILLERS = ("please", "now", "kindly", "then", "just", "well", "also", "the")

#: Synonym pairs (verb index, object index). Each word occurs in training; each word occurs in the
#: held-out set.
TRAIN_COMBINATIONS = ((0, 0), (1, 1), (2, 2), (0, 1), (1, 2))
HELD_OUT_COMBINATIONS = ((0, 2), (1, 0), (2, 0), (2, 1))


def draw_instruction(
    stream: Stream,
    verb: tuple[str, ...],
    obj: tuple[str, ...],
    *,
    held_out: bool,
    filler_probability: float,
) -> str:
    """`filler? verb filler? object filler?` with a synonym pair of the training or of the held-out
    set."""
    v, o = stream.choice(HELD_OUT_COMBINATIONS if held_out else TRAIN_COMBINATIONS)
    words: list[str] = []
    for word in (verb[v], obj[o], None):
        if stream.chance(filler_probability):
            words.append(stream.choice(FILLERS))
        if word is not None:
            words.append(word)
    return " ".join(words)


def read_instruction(instruction: str) -> tuple[str, str]:
    """The verb and the object of an instruction, fillers dropped.

    Raises:
        ValueError: when that does not leave two words.
    """
    words = [word for word in instruction.split() if word not in FILLERS]
    if len(words) != 2:
        raise ValueError(
            f"not a benchmark instruction: {instruction!r}; expected a verb, an object and fillers"
        )
    return words[0], words[1]
