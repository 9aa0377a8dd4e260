"""The preview shows every token of a sample, and which of them are trained on."""

from __future__ import annotations

import io
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from data_modules.chat import ChatFormat
from data_modules.records import Message
from data_modules.report import pieces_of, print_preview
from tests.shared_data import CHATML, REAL_TOKENIZERS, byte_tokenizer, real_tokenizer

CONVERSATION = (
    Message("user", "把这句话译成英语：\n我家有四个人。🙂 é"),
    Message("assistant", "There are four.\n\n```python\nprint('四')\n```\u200b�"),
)


def encoded(tokenizer: Any) -> tuple[list[int], list[bool]]:
    ids, mask = ChatFormat(tokenizer).encode(CONVERSATION)
    return ids, mask.tolist()


def decoded(tokenizer: Any, ids: list[int]) -> str:
    text: str = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
    return text


def check(tokenizer: Any) -> None:
    ids, mask = encoded(tokenizer)
    pieces = pieces_of(tokenizer, ids, mask)
    assert "".join(text for text, *_ in pieces) == decoded(tokenizer, ids)
    assert [token for _, token, _, _ in pieces] == ids
    assert [supervised for _, _, supervised, _ in pieces] == mask
    special = [text for text, _, _, is_special in pieces if is_special]
    assert special[-1] == tokenizer.eos_token
    answer = "".join(text for text, _, supervised, _ in pieces if supervised)
    assert answer.endswith(tokenizer.eos_token)
    assert "print('四')" in answer
    # No piece ends inside a character: the one replacement character is the text's own.
    assert sum(text.count("�") for text, *_ in pieces) == 1


@pytest.mark.parametrize("prepend", [False, True])
@pytest.mark.parametrize("template", [None, CHATML])
def test_byte_level_pieces_join_to_the_text(template: str | None, prepend: bool) -> None:
    check(byte_tokenizer(template, prepend))


@pytest.mark.parametrize("name", REAL_TOKENIZERS)
def test_real_pieces_join_to_the_text(name: str) -> None:
    check(real_tokenizer(name))


def test_a_split_character_stands_with_its_last_token() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode("a四b", add_special_tokens=False)
    texts = [text for text, *_ in pieces_of(tokenizer, ids, [True] * len(ids))]
    assert texts == ["a", "", "", "四", "b"]


def test_a_character_cut_off_is_shown_as_such() -> None:
    tokenizer = byte_tokenizer()
    ids = tokenizer.encode("四", add_special_tokens=False)
    end = tokenizer.eos_token_id
    texts = [text for text, *_ in pieces_of(tokenizer, [*ids[:2], end, ids[0]], [True] * 4)]
    assert texts[2:] == ["</s>", "�"]
    assert "".join(texts[:2]).strip("�") == ""
    assert texts[1]


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40), cut=st.integers(0, 8))
def test_pieces_of_any_text(text: str, cut: int) -> None:
    tokenizer = _BYTES
    ids = [1, *tokenizer.encode(text, add_special_tokens=False)[cut:], 2]
    pieces = pieces_of(tokenizer, ids, [False] * len(ids))
    assert "".join(piece[0] for piece in pieces) == decoded(tokenizer, ids)


_BYTES = byte_tokenizer()


def shown(colour: bool, sign: int = 1, **console: Any) -> str:
    tokenizer = byte_tokenizer(CHATML)
    ids, mask = encoded(tokenizer)
    sample = {
        "task": "translation",
        "phase": "mix",
        "row_id": "train/t.jsonl:\x1b7",
        "sign": sign,
        "pieces": pieces_of(tokenizer, ids, mask),
    }
    stream = io.StringIO()
    print_preview(
        Console(file=stream, width=100, highlight=False, force_terminal=colour, **console),
        [sample],
    )
    return stream.getvalue()


def test_without_colour_the_loss_is_in_brackets() -> None:
    text = shown(colour=False)
    ids, mask = encoded(byte_tokenizer(CHATML))
    assert f"translation  phase mix, {len(ids)} tokens, {sum(mask)} supervised" in text
    assert "train/t.jsonl:⟨U+001B⟩7" in text
    assert (
        "<|user|>⏎\n把这句话译成英语：⏎\n我家有四个人。🙂 é</s>⏎\n<|assistant|>⏎\n⟦There are"
        in text
    )
    assert "print('四')⏎\n```⟨U+200B⟩�</s>⟧⏎" in text
    assert "\x1b" not in text
    assert "NEGATIVE" not in text
    negative = shown(colour=False, sign=-1)
    assert "⟦− There are four." in negative
    assert "NEGATIVE" in negative
    # A terminal without colour is marked alike.
    plain = re.sub("\x1b\\[[0-9;]*m", "", shown(colour=True, no_color=True))
    assert "⟦There are" in plain


def test_with_colour_the_loss_is_coloured() -> None:
    text = shown(colour=True, color_system="standard")
    assert "\x1b[1;32mThere are four.⏎\x1b[0m" in text
    assert "\x1b[1;7;32m</s>\x1b[0m" in text, "the end token is trained on"
    assert "\x1b[7;35m</s>\x1b[0m" in text, "the one of the prompt is not"
    assert "\x1b[2m我家有四个人。🙂 é\x1b[0m" in text
    assert "⟦" not in text
    negative = shown(colour=True, sign=-1, color_system="standard")
    assert "\x1b[1;31mThere are four.⏎\x1b[0m" in negative


def test_brackets_in_a_sample_are_no_markup() -> None:
    sample = {
        "task": "[red]",
        "phase": "mix",
        "row_id": "1",
        "sign": 1,
        "pieces": [("[bold]x[/bold]", 5, True, False)],
    }
    stream = io.StringIO()
    print_preview(Console(file=stream, width=80, highlight=False), [sample])
    assert "⟦[bold]x[/bold]⟧" in stream.getvalue()
    assert "[red]" in stream.getvalue()


@pytest.mark.parametrize("colour", [False, True])
def test_no_line_is_cut(colour: bool) -> None:
    end = "the constraint"
    sample = {
        "task": "qa",
        "phase": "mix",
        "row_id": "1",
        "sign": 1,
        "pieces": [("word " * 60 + end, 5, True, False)],
    }
    stream = io.StringIO()
    console = Console(file=stream, width=80, highlight=False, force_terminal=colour)
    print_preview(console, [sample])
    text = re.sub("\x1b\\[[0-9;]*m", "", stream.getvalue())
    assert end in " ".join(text.split())
    assert text.count("word") == 60
