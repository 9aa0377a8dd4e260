"""What a row becomes: a :class:`Record` that can be trained on, or a :class:`Reject` with its reason."""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True, slots=True)
class Message:
    """One turn; ``role`` is one of :data:`ROLES`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Record:
    """One usable row: a conversation that ends on an answer.

    Attributes:
        origin: where it stands, ``file:line``; for tables the number of the row, from 1.
        row_id: the row's own ``id``, else ``origin``; what ``cleaning.keep`` and ``drop`` name.
        source: name of the task's source.
        instruction: the instruction alone, where the row keeps it apart from an input; the first user
            turn is then the instruction, or the instruction, a line break and the input.
        negative: the last answer is wrong for the task.
        behaves_like: the task whose behaviour a negative answer shows, where it is known.
        rejected: a wrong answer to the same request, beside the right one.
        quality: the row's own score in [0, 1], if it has one.
        language: of the request; see ``data_modules.cleaning.language``. Empty until cleaned.
        contrast: what a negative's answer is compared with, where that is known: the right answer to
            the same request, or one in the right manner. A beginning that both share is not wrong.
        tests: of an evaluation row whose answer is code: Python assertions; not kept for training rows.
    """

    task: str
    messages: tuple[Message, ...]
    origin: str
    row_id: str = ""
    source: str = "main"
    instruction: str | None = None
    negative: bool = False
    behaves_like: str = ""
    rejected: str | None = None
    quality: float | None = None
    language: str = ""
    contrast: str | None = None
    tests: str = ""

    @property
    def answer(self) -> str:
        """The last turn."""
        return self.messages[-1].content

    @property
    def request(self) -> str:
        """The first user turn: where tag, cue and paraphrase go."""
        return next(message.content for message in self.messages if message.role == "user")


@dataclass(frozen=True, slots=True)
class Reject:
    """One row that is not used, with the rule that refused it.

    Attributes:
        row: the row itself as text, as it stood in its file where that is known.
    """

    task: str
    origin: str
    rule: str
    reason: str
    row: str
    row_id: str = ""
