"""Conversations as a tokenizer's chat template renders their beginnings; fast for many rows.

A template engine takes hundreds of microseconds a row, more than the tokenizer. Most templates only
put contents between fixed texts, which depend on the roles alone. Where rendering a few telling
contents shows a template to be such a one, rows of the same roles are made by putting their contents
between these texts. A row is still rendered by the template itself if a content has white space at its
ends or holds any text that the template names (both are what templates look for), and so is one row in
:data:`CHECKED`, whose two renderings must be equal.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from data_modules.faults import DataFault, Fault
from data_modules.records import Message

Conversation = tuple[Message, ...]

# One row in this many is rendered both ways.
CHECKED = 64

# Contents that a template which looks into them would treat unlike others.
_PROBES = (
    "plain",
    "two\nlines\n\nand a third",
    "MiXed  CaSe & <b>'quotes'</b> \"double\" {{ braces }} {% tag %} \\n %s",
    "中文，标点。",
    "7",
    "[tag] long " + "word " * 400 + "end",
)
_MARK = "\ue000{}\ue001"  # private use: in no content that is rendered by substitution
_ROLES = ("system", "user", "assistant", "tool")

# The fixed texts of one rendering: text[0] + content[0] + text[1] + ... + text[n]
_Frame = list[str]


class TemplateSurprise(Exception):
    """A template that looked simple renders a row unlike its fixed texts say."""


class Renderer:
    """Renders many conversations at once.

    Args:
        tokenizer: a Hugging Face tokenizer with a chat template.
        by_template: render every row by the template itself.
    """

    def __init__(self, tokenizer: Any, by_template: bool) -> None:
        self.tokenizer = tokenizer
        self.by_template = by_template
        self._frames: dict[tuple[tuple[str, ...], bool], list[_Frame] | None] = {}
        self._named: tuple[str, ...] | None = None
        self._rendered = 0

    def renders(self, conversations: Sequence[Conversation], generation: bool) -> list[list[str]]:
        """Beginnings of every conversation.

        For each answer the text before it (generation prompt included) and the text up to its end;
        with ``generation`` also the whole with a generation prompt at its end.

        Raises:
            DataFault: the template refuses a conversation.
            TemplateSurprise: see above; a renderer with ``by_template`` never raises it.
        """
        result: list[list[str] | None] = [self._framed(one, generation) for one in conversations]
        left = [number for number, texts in enumerate(result) if texts is None]
        checked = [number for number in range(len(result)) if self._is_checked(number)]
        exact = self._by_template([conversations[one] for one in left + checked], generation)
        for number, texts in zip(left + checked, exact, strict=True):
            if result[number] is not None and result[number] != texts:
                raise TemplateSurprise(texts[-1])
            result[number] = texts
        self._rendered += len(result)
        return [texts for texts in result if texts is not None]

    def _is_checked(self, number: int) -> bool:
        return (self._rendered + number) % CHECKED == 0

    def _framed(self, conversation: Conversation, generation: bool) -> list[str] | None:
        """The beginnings by substitution; None where the template itself has to render them."""
        if self.by_template:
            return None
        roles = tuple([message.role for message in conversation])
        key = (roles, generation)
        if key not in self._frames:
            self._frames[key] = self._find_frames(roles, generation)
        frames = self._frames[key]
        if frames is None:
            return None
        contents = [message.content for message in conversation]
        if not all(map(self._is_plain, contents)):
            return None
        return [_filled(frame, contents) for frame in frames]

    def _is_plain(self, content: str) -> bool:
        if not content or content[0].isspace() or content[-1].isspace():
            return False
        if self._named is None:
            self._named = _named_texts(self.tokenizer.chat_template)
        return not any(text in content for text in self._named)

    def _find_frames(self, roles: tuple[str, ...], generation: bool) -> list[_Frame] | None:
        marks = [_MARK.format(turn) for turn in range(len(roles))]
        probes = [marks, *([probe] * len(roles) for probe in _PROBES)]
        conversations = [
            tuple(Message(role, content) for role, content in zip(roles, contents, strict=True))
            for contents in probes
        ]
        try:
            rendered = self._by_template(conversations, generation)
        except DataFault:  # the row itself will say so
            return None
        frames = [_frame(text, marks) for text in rendered[0]]
        known = [frame for frame in frames if frame is not None]
        if len(known) < len(frames):
            return None
        for contents, texts in zip(probes[1:], rendered[1:], strict=True):
            if [_filled(frame, contents) for frame in known] != texts:
                return None
        return known

    def _by_template(
        self, conversations: Sequence[Conversation], generation: bool
    ) -> list[list[str]]:
        """In two calls of the template engine, whose set-up costs more than a rendering."""
        before: list[list[dict[str, str]]] = []
        after: list[list[dict[str, str]]] = []
        answers: list[int] = []
        for messages in conversations:
            turns = [{"role": message.role, "content": message.content} for message in messages]
            ends = [turn for turn, one in enumerate(messages) if one.role == "assistant"]
            before += [turns[:turn] for turn in ends]
            after += [turns[: turn + 1] for turn in ends]
            if generation:
                before.append(turns)
            answers.append(len(ends))
        texts_before, texts_after = (
            iter(self._render(before, True)),
            iter(self._render(after, False)),
        )
        return [list(_alternate(texts_before, texts_after, n, generation)) for n in answers]

    def _render(self, conversations: list[list[dict[str, str]]], generation: bool) -> list[str]:
        if not conversations:
            return []
        try:
            texts: list[str] = self.tokenizer.apply_chat_template(
                conversations, tokenize=False, add_generation_prompt=generation
            )
        except TemplateError as error:  # raise_exception in the template
            raise DataFault(
                Fault(
                    "data.chat_template",
                    f"the template refuses a conversation: {error}",
                    "it must render every row",
                    "Give a template of your own (data.chat_template=PATH) or mend the row.",
                )
            ) from error
        return texts


def _alternate(
    before: Iterator[str], after: Iterator[str], answers: int, generation: bool
) -> Iterator[str]:
    for _ in range(answers):
        yield next(before)
        yield next(after)
    if generation:
        yield next(before)


def _frame(text: str, marks: Sequence[str]) -> _Frame | None:
    """The text around the marks, which must come in order and once each, later ones maybe not."""
    frame: _Frame = []
    for mark in marks:
        head, found, rest = text.partition(mark)
        if not found:
            break
        frame.append(head)
        text = rest
    whole = not any(mark in one for one in [*frame, text] for mark in marks)
    return [*frame, text] if whole else None


def _filled(frame: _Frame, contents: Sequence[str]) -> str:
    parts: list[str] = []
    for text, content in zip(frame, contents, strict=False):
        parts += [text, content]
    return "".join([*parts[: 2 * (len(frame) - 1)], frame[-1]])


def _named_texts(template: str) -> tuple[str, ...]:
    """Texts that a template could look for in a content: its constants but for keys and roles."""
    tree = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"]).parse(
        template.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    )
    keys = {id(node.arg) for node in tree.find_all(nodes.Getitem)}
    texts = {
        node.value
        for node in tree.find_all(nodes.Const)
        if isinstance(node.value, str) and id(node) not in keys
    }
    return tuple(sorted(text for text in texts if text.strip() and text not in _ROLES))
