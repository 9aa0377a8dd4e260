"""Chat template rendering with the supervised part known exactly.

A conversation is rendered to text up to every turn and cut at the turn boundaries; every piece is
tokenised on its own. The ids a model is trained on are therefore, by construction, the ids it gets at
inference (``prompt``) followed by the answer's own ids, whatever the tokenizer merges across text.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.chat_rendering import Conversation, Renderer
from data_modules.faults import DataFault, Fault

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
        self.renderer = Renderer(tokenizer, by_template=True)

    def for_many_rows(self) -> ChatFormat:
        """The same format, faster: most templates need not be rendered for every row.

        May raise ``chat_rendering.TemplateSurprise`` in the midst of the work.
        """
        fast = copy.copy(self)
        fast.renderer = Renderer(self.tokenizer, by_template=False)
        return fast

    def prompt(self, messages: Conversation) -> list[int]:
        """Token ids of a conversation that ends on a user turn, ready for generation.

        Raises:
            DataFault: as in :meth:`encode`.
        """
        pieces = _pieces(messages, self.renderer.renders([messages], True)[0], True)
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
        renders = self.renderer.renders(conversations, False)
        return self._tokenise(
            [
                self._with_end(_pieces(messages, rendered, False))
                for messages, rendered in zip(conversations, renders, strict=True)
            ]
        )

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

    def _tokenise(self, conversations: list[list[Piece]]) -> list[Encoded]:
        texts = [text for pieces in conversations for text, _ in pieces]
        if not texts:
            return []
        ids = iter(self._ids(texts))
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

    def _ids(self, texts: list[str]) -> list[list[int]]:
        backend = getattr(self.tokenizer, "backend_tokenizer", None)
        if backend is not None:
            # What the call below does for tokenizers of this kind, without its detours.
            encoded = backend.encode_batch_fast(texts, add_special_tokens=False)
            return [one.ids for one in encoded]
        ids: list[list[int]] = self.tokenizer(texts, add_special_tokens=False)["input_ids"]
        return ids


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
