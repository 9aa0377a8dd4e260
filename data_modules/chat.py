"""Chat template rendering with the supervised part known exactly.

A conversation is rendered to text once per turn and cut at the turn boundaries; every piece is
tokenised on its own. The ids a model is trained on are therefore, by construction, the ids it gets at
inference (``prompt``) followed by the answer's own ids, whatever the tokenizer merges across text.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from data_modules.faults import DataFault, Fault
from data_modules.records import Message

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

    def prompt(self, messages: tuple[Message, ...]) -> list[int]:
        """Token ids of a conversation that ends on a user turn, ready for generation.

        Raises:
            DataFault: as in :meth:`encode`.
        """
        return self._join(self._pieces(messages, generation=True))[0]

    def encode(self, messages: tuple[Message, ...]) -> tuple[list[int], np.ndarray]:
        """Token ids of a whole conversation and which of them are supervised.

        Returns:
            ``(input_ids, supervised)``: a list of n ids and a bool array [n], True on every
            assistant answer including the token that ends it.

        Raises:
            DataFault: the template rewrites earlier turns (some drop old reasoning), so the text
                before an answer at training would differ from the one at inference.
        """
        return self._join(self._pieces(messages, generation=False))

    def _pieces(self, messages: tuple[Message, ...], generation: bool) -> list[tuple[str, bool]]:
        """The rendered conversation as (text, supervised) pieces.

        With ``generation`` the last piece opens an answer; without, it is the end of the last one.
        """
        pieces: list[tuple[str, bool]] = []
        done = rest = ""
        for turn, message in enumerate(messages):
            if message.role != "assistant":
                continue
            before = self._render(messages[:turn], generation=True)
            after = self._render(messages[: turn + 1], generation=False)
            self._check_continues(done, before, turn)
            self._check_continues(before, after, turn)
            pieces.append((rest + before[len(done) :], False))
            answer, rest = self._split_end(after[len(before) :])
            pieces.append((answer, True))
            done = after
        if generation:
            before = self._render(messages, generation=True)
            self._check_continues(done, before, len(messages))
            rest += before[len(done) :]
        return [*pieces, (rest, False)]

    def _check_continues(self, beginning: str, text: str, turn: int) -> None:
        if not text.startswith(beginning):
            raise DataFault(
                Fault(
                    "data.chat_template",
                    f"turn {turn + 1} is not rendered after an unchanged beginning",
                    "a template must render a longer conversation as a continuation",
                    "Give a template of your own (data.chat_template=PATH) or keep one answer "
                    "per row.",
                )
            )

    def _join(self, pieces: list[tuple[str, bool]]) -> tuple[list[int], np.ndarray]:
        ids: list[int] = []
        mask: list[bool] = []
        for text, supervised in pieces:
            piece = self._ids(text)
            ids += piece
            mask += [supervised] * len(piece)
        return ids, np.array(mask, dtype=bool)

    def _split_end(self, answer: str) -> tuple[str, str]:
        """Split the rendered answer behind its end token; append the token where none is rendered."""
        end: str = self.tokenizer.eos_token
        head, found, rest = answer.rpartition(end)
        if found:
            return head + end, rest
        text = answer.rstrip("\n")
        return text + end, answer[len(text) :]

    def _render(self, messages: tuple[Message, ...], generation: bool) -> str:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        text: str = self.tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=generation
        )
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return ids
