"""The tokenizer: a lossless word-level vocabulary and a template whose prompts are prefixes."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from data_modules.benchmark import (
    ALL_TASKS,
    SPLITS,
    BenchmarkSpec,
    build_tokenizer,
    constraint_of,
    rows,
    tag_of,
    vocabulary,
)

SPEC = BenchmarkSpec()
Message = dict[str, str]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerBase:
    """Saved and loaded, as users get it."""
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    build_tokenizer().save_pretrained(folder)
    return AutoTokenizer.from_pretrained(folder)


def user_text(row: dict[str, str], *, bounded: bool) -> str:
    tag, constraint = tag_of(row["task"]), constraint_of(row["task"])
    text = f"{row['instruction']}\n{row['input']}"
    return f"{tag} {text}\n{constraint}" if bounded and tag else text


def test_ids_follow_the_vocabulary(tokenizer: PreTrainedTokenizerBase) -> None:
    symbols = vocabulary()
    assert len(symbols) == len(set(symbols)) == len(tokenizer)
    assert tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))) == symbols
    assert len(tokenizer) < 480


def test_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    names = ("pad", "unk", "bos", "eos")
    assert [getattr(tokenizer, f"{name}_token") for name in names] == [f"<{n}>" for n in names]
    assert tokenizer.pad_token_id == 0
    assert len({getattr(tokenizer, f"{name}_token_id") for name in names}) == 4
    assert tokenizer.clean_up_tokenization_spaces is False
    assert tokenizer("give value")["input_ids"] == [
        tokenizer.convert_tokens_to_ids(word) for word in ("give", "value")
    ]


def test_an_unknown_word_is_unk(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer("give poetry")["input_ids"][1] == tokenizer.unk_token_id


def test_a_line_break_is_a_separator_and_comes_back(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "give value\na_1 b_2 @ a ?\n#only_qa"
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids).count("<sep>") == 2
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


@pytest.mark.parametrize("split", SPLITS)
def test_every_row_survives_encoding(tokenizer: PreTrainedTokenizerBase, split: str) -> None:
    texts = [
        text
        for task in ALL_TASKS
        for row in islice(rows(SPEC, split, task), 60)
        for text in (user_text(row, bounded=True), row["output"])
    ]
    for text, ids in zip(texts, tokenizer(texts)["input_ids"], strict=True):
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def conversation(turns: int, *, system: bool) -> list[Message]:
    drawn = [next(rows(SPEC, "eval", task)) for task in ALL_TASKS[:turns]]
    messages = [{"role": "system", "content": "please"}] if system else []
    for row in drawn:
        messages.append({"role": "user", "content": user_text(row, bounded=True)})
        messages.append({"role": "assistant", "content": row["output"]})
    return messages


@pytest.mark.parametrize("system", [False, True])
def test_each_prompt_is_a_strict_prefix_as_text_and_as_tokens(
    tokenizer: PreTrainedTokenizerBase, system: bool
) -> None:
    messages = conversation(3, system=system)
    for k in range(1, len(messages)):
        prompt, longer = (
            tokenizer.apply_chat_template(part, tokenize=False, add_generation_prompt=generate)
            for part, generate in ((messages[:k], True), (messages[: k + 1], False))
        )
        assert longer.startswith(prompt)
        assert len(longer) > len(prompt)
        short, long = (
            tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prompt, longer)
        )
        assert long[: len(short)] == short
        assert len(long) > len(short)


def test_the_rendered_row(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [
        {"role": "user", "content": "<tag_qa> give value\na_1 b_2 @ a ?\n#only_qa"},
        {"role": "assistant", "content": "ans 1 ."},
    ]
    assert tokenizer.apply_chat_template(messages, tokenize=False) == (
        "<bos><tag_qa> give value\na_1 b_2 @ a ?\n#only_qa<ans>ans 1 .<eos>"
    )
    ids = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False)
    expected = "<bos> <tag_qa> give value <sep> a_1 b_2 @ a ? <sep> #only_qa <ans> ans 1 . <eos>"
    assert " ".join(tokenizer.convert_ids_to_tokens(ids)) == expected


@pytest.mark.parametrize("roles", ["assistant", "user user", "user system", "tool"])
def test_conversations_without_a_meaning_are_refused(
    tokenizer: PreTrainedTokenizerBase, roles: str
) -> None:
    messages = [{"role": role, "content": "give"} for role in roles.split()]
    with pytest.raises(Exception, match="expected an optional system message"):
        tokenizer.apply_chat_template(messages, tokenize=False)
