"""Chat template rendering with the supervised part known exactly.

A conversation is rendered to text once per turn and cut at the turn boundaries; every piece is
tokenised on its own. The ids a model is trained on are therefore, by construction, the ids it gets at
inference (``prompt``) followed by the answer's own ids, whatever the tokenizer merges across text.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import TemplateError

from data_modules.faults import DataFault, Fault
from data_modules.records import Message

Conversation = tuple[Message, ...]
Encoded = tuple[list[int], np.ndarray]  # input_ids, supervised
Piece = tuple[str, bool]  # text, supervised

# For tokenizers that bring no chat template (base models). Plain text needs no new symbols.
PLAIN_TEMPLATE = (
    "{{ bos_token if bos_token else '' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'system' %}{{ message['content'] + '\\n' }}"
    "{% elif message['role'] == 'user' %}{{ '### User:\\n' + message['content'] + '\\n' }}"
    "{% else %}{{ '### Assistant:\\n' + message['content'] + eos_token }}"
    "{% if not loop.last %}{{ '\\n' }}{% endif %}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '### Assistant:\\n' }}{% endif %}"
)


class ChatFormat:
    """Renders conversations with a Hugging Face tokenizer's chat template.

    The tokenizer must have an end-of-sequence token: it is the last supervised token of every answer,
    and what stops generation.
    """

    def __init__(self, tokenizer: Any, template_path: str | None = None) -> None:
        if template_path is not None:
            path = Path(template_path)
            if not path.is_file():
                raise DataFault(
                    Fault("data.chat_template", f"no file {path}", "it names a Jinja template file")
                )
            tokenizer.chat_template = path.read_text(encoding="utf-8")
        elif tokenizer.chat_template is None:
            tokenizer.chat_template = PLAIN_TEMPLATE
        if tokenizer.eos_token_id is None:
            raise DataFault(
                Fault(
                    "model.tokenizer",
                    "the tokenizer has no eos_token",
                    "answers must end in a token that stops generation",
                    "Set eos_token in tokenizer_config.json.",
                )
            )
        self.tokenizer = tokenizer

    def prompt(self, messages: Conversation) -> list[int]:
        """Token ids of a conversation that ends on a user turn, ready for generation.

        Raises:
            DataFault: as in :meth:`encode`.
        """
        pieces = _pieces(messages, self._renders([messages], True)[0], True)
        return self._tokenise([self._with_end(pieces)])[0][0]

    def encode(self, messages: Conversation) -> Encoded:
        """:meth:`encode_many` for one conversation."""
        return self.encode_many([messages])[0]

    def encode_many(self, conversations: Sequence[Conversation]) -> list[Encoded]:
        """Token ids of whole conversations and which of them are supervised.

        Returns:
            For each ``(input_ids, supervised)``: a list of n ids and a bool array [n], True on every
            assistant answer including the token that ends it.

        Raises:
            DataFault: the template rewrites earlier turns (some drop old reasoning), so the text
                before an answer at training would differ from the one at inference; or it refuses
                the conversation.
        """
        renders = self._renders(conversations, False)
        return self._tokenise(
            [
                self._with_end(_pieces(messages, rendered, False))
                for messages, rendered in zip(conversations, renders, strict=True)
            ]
        )

    def _renders(self, conversations: Sequence[Conversation], generation: bool) -> list[list[str]]:
        """Every conversation as its template renders its beginnings.

        For each answer the text before it (generation prompt included) and the text up to its end;
        with ``generation`` also the whole with a generation prompt at its end. All in two calls of
        the template engine, whose set-up costs more than a rendering.
        """
        before: list[list[dict[str, str]]] = []
        after: list[list[dict[str, str]]] = []
        shape: list[int] = []
        for messages in conversations:
            turns = [{"role": message.role, "content": message.content} for message in messages]
            answers = [turn for turn, one in enumerate(messages) if one.role == "assistant"]
            before += [turns[:turn] for turn in answers]
            after += [turns[: turn + 1] for turn in answers]
            if generation:
                before.append(turns)
            shape.append(len(answers))
        texts_before = iter(self._render(before, True))
        texts_after = iter(self._render(after, False))
        result: list[list[str]] = []
        for answers_count in shape:
            texts: list[str] = []
            for _ in range(answers_count):
                texts += [next(texts_before), next(texts_after)]
            if generation:
                texts.append(next(texts_before))
            result.append(texts)
        return result

    def _with_end(self, pieces: list[Piece]) -> list[Piece]:
        """Every answer ends in the end token; what the template puts behind it is not supervised."""
        result: list[Piece] = []
        for text, supervised in pieces:
            if supervised:
                answer, rest = self._split_end(text)
                result += [(answer, True), (rest, False)]
            else:
                result.append((text, False))
        return _merged(result)

    def _split_end(self, answer: str) -> tuple[str, str]:
        """Split the rendered answer behind its end token; append the token where none is rendered."""
        end: str = self.tokenizer.eos_token
        head, found, rest = answer.rpartition(end)
        if found:
            return head + end, rest
        text = answer.rstrip("\n")
        return text + end, answer[len(text) :]

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

    def _tokenise(self, conversations: list[list[Piece]]) -> list[Encoded]:
        texts = [text for pieces in conversations for text, _ in pieces]
        if not texts:
            return []
        ids = iter(
            self.tokenizer(
                texts,
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )["input_ids"]
        )
        result: list[Encoded] = []
        for pieces in conversations:
            joined: list[int] = []
            mask: list[bool] = []
            for _, supervised in pieces:
                piece = next(ids)
                joined += piece
                mask += [supervised] * len(piece)
            result.append((joined, np.array(mask, dtype=bool)))
        return result


def _pieces(messages: Conversation, renders: list[str], generation: bool) -> list[Piece]:
    """The rendered conversation as (text, supervised) pieces.

    With ``generation`` the last piece opens an answer; without, it is the end of the last one.
    """
    pieces: list[Piece] = []
    done = ""
    turns = [turn for turn, one in enumerate(messages) if one.role == "assistant"]
    for turn, before, after in zip(turns, renders[::2], renders[1::2], strict=False):
        _check_continues(done, before, turn)
        _check_continues(before, after, turn)
        pieces += [(before[len(done) :], False), (after[len(before) :], True)]
        done = after
    if generation:
        _check_continues(done, renders[-1], len(messages))
        pieces.append((renders[-1][len(done) :], False))
    return _merged(pieces)


def _merged(pieces: list[Piece]) -> list[Piece]:
    """Neighbours of one kind as one: their text is tokenised together."""
    result: list[Piece] = []
    for text, supervised in pieces:
        if not text:
            continue
        if result and result[-1][1] == supervised:
            result[-1] = (result[-1][0] + text, supervised)
        else:
            result.append((text, supervised))
    return result


def _check_continues(beginning: str, text: str, turn: int) -> None:
    if not text.startswith(beginning):
        raise DataFault(
            Fault(
                "data.chat_template",
                f"turn {turn + 1} is not rendered after an unchanged beginning",
                "a template must render a longer conversation as a continuation",
                "Give a template of your own (data.chat_template=PATH) or keep one answer per row.",
            )
        )
