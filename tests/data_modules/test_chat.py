"""Chat formats: training ids begin with the inference prompt's ids; only answers are supervised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_modules.chat import PLAIN_TEMPLATE, ChatFormat
from data_modules.faults import DataFault
from data_modules.records import Message
from tests.shared_data import CHATML, REAL_TOKENIZERS, byte_tokenizer, real_tokenizer

# Text that tokenizers merge, normalise or strip at the borders of turns.
CONVERSATION = (
    Message("system", "Be brief."),
    Message("user", "One?\n"),
    Message("assistant", "one:\n\nand 一 é"),
    Message("user", " Two? :"),
    Message("assistant", "\u00a0two 12\n"),
    Message("user", "Three?"),
    Message("assistant", "three"),
)
NO_END = (
    "{% for m in messages %}{{ m['role'] }}:\n{{ m['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:\n{% endif %}"
)
# Drops what an earlier answer thought, as several reasoning models' templates do.
FORGETFUL = (
    "{% for m in messages %}{% if m['role'] == 'assistant' and not loop.last %}[old]</s>"
    "{% else %}{{ m['role'] }}:{{ m['content'] }}"
    "{{ eos_token if m['role'] == 'assistant' else '\n' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
BUILT: dict[str, tuple[str | None, bool]] = {
    "plain": (None, False),
    "chatml": (CHATML, False),
    "no_end": (NO_END, False),
    "prepend_plain": (None, True),
    "prepend_chatml": (CHATML, True),
    "prepend_no_end": (NO_END, True),
}


@pytest.fixture(params=[*BUILT, *REAL_TOKENIZERS], scope="module")
def chat(request: pytest.FixtureRequest) -> ChatFormat:
    if request.param in BUILT:
        template, prepend = BUILT[request.param]
        return ChatFormat(byte_tokenizer(template, prepend))
    return ChatFormat(real_tokenizer(request.param))


def supervised_runs(chat: ChatFormat, messages: tuple[Message, ...]) -> list[list[int]]:
    """The stretches of supervised ids."""
    ids, mask = chat.encode(messages)
    runs: list[list[int]] = []
    for index, token in enumerate(ids):
        if mask[index]:
            if index == 0 or not mask[index - 1]:
                runs.append([])
            runs[-1].append(token)
    return runs


@pytest.mark.parametrize("answers", [1, 2, 3])
@pytest.mark.parametrize("system", [True, False])
def test_training_ids_begin_with_the_prompt(chat: ChatFormat, answers: int, system: bool) -> None:
    messages = CONVERSATION[0 if system else 1 : 1 + 2 * answers]
    ids, mask = chat.encode(messages)
    prompt = chat.prompt(messages[:-1])
    assert len(ids) == len(mask)
    assert ids[: len(prompt)] == prompt
    # The next token is the first of the last answer: nothing lies between.
    assert mask[len(prompt)]
    assert mask[: len(prompt)].any() == (answers > 1)


def test_exactly_the_answers_and_their_ends_are_supervised(chat: ChatFormat) -> None:
    tokenizer = chat.tokenizer
    runs = supervised_runs(chat, CONVERSATION)
    assert len(runs) == 3
    for run, message in zip(runs, CONVERSATION[2::2], strict=True):
        assert run[-1] == tokenizer.eos_token_id
        assert tokenizer.eos_token_id not in run[:-1]
        text = tokenizer.decode(run[:-1], clean_up_tokenization_spaces=False)
        assert text.strip(" _\n") == message.content.strip("\n")


def test_a_prompt_is_the_rendered_text_tokenised_at_once(chat: ChatFormat) -> None:
    # What any other inference program does with a single turn.
    messages = CONVERSATION[:2]
    turns = [{"role": m.role, "content": m.content} for m in messages]
    rendered = chat.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    assert chat.prompt(messages) == chat.tokenizer.encode(rendered, add_special_tokens=False)


@pytest.mark.parametrize("name", BUILT)
def test_no_text_is_lost_or_invented(name: str) -> None:
    template, prepend = BUILT[name]
    tokenizer = byte_tokenizer(template, prepend)
    ids, _ = ChatFormat(tokenizer).encode(CONVERSATION)
    turns = [{"role": m.role, "content": m.content} for m in CONVERSATION]
    rendered = tokenizer.apply_chat_template(turns, tokenize=False)
    text = tokenizer.decode(ids).replace("_", "")
    # Where the template renders no end token, each of the three answers gets one.
    assert text.count("</s>") == rendered.count("</s>") + (3 if template == NO_END else 0)
    assert text.replace("</s>", "") == rendered.replace("</s>", "")


def test_a_merge_never_crosses_from_prompt_to_answer() -> None:
    # "\n" + "\n" is one token of this tokenizer; the prompt ends in the first, the answer begins
    # with the second, and at inference nobody could merge them.
    chat = ChatFormat(byte_tokenizer(CHATML))
    messages = (Message("user", "a"), Message("assistant", "\nb"))
    ids, mask = chat.encode(messages)
    one = chat.tokenizer.convert_tokens_to_ids("Ċ")
    assert chat.prompt(messages[:1])[-1] == one
    assert [token for token, on in zip(ids, mask, strict=True) if on] == [
        one, chat.tokenizer.convert_tokens_to_ids("b"), chat.tokenizer.eos_token_id
    ]  # fmt: skip


def test_the_plain_template_serves_tokenizers_without_one() -> None:
    tokenizer = byte_tokenizer(None)
    chat = ChatFormat(tokenizer)
    assert tokenizer.chat_template == PLAIN_TEMPLATE, "exported models must carry it"
    assert tokenizer.decode(chat.prompt(CONVERSATION[:2])) == (
        "<s>Be brief.\n### User:\nOne?\n\n### Assistant:\n"
    )
    ids, _ = chat.encode((Message("user", "a"), Message("assistant", "b")))
    assert tokenizer.decode(ids) == "<s>### User:\na\n### Assistant:\nb</s>"


def test_a_template_of_its_own_is_kept() -> None:
    tokenizer = byte_tokenizer(CHATML)
    ChatFormat(tokenizer)
    assert tokenizer.chat_template == CHATML


def test_a_template_file_wins(tmp_path: Path) -> None:
    path = tmp_path / "chat.jinja"
    path.write_text(NO_END, encoding="utf-8")
    chat = ChatFormat(byte_tokenizer(CHATML), str(path))
    assert chat.tokenizer.decode(chat.prompt((Message("user", "a"),))) == "user:\na\nassistant:\n"


def test_a_missing_template_file_is_a_user_fault(tmp_path: Path) -> None:
    with pytest.raises(DataFault, match=r"data\.chat_template: no file .*none\.jinja"):
        ChatFormat(byte_tokenizer(), str(tmp_path / "none.jinja"))


def test_a_tokenizer_without_end_token_is_a_user_fault() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(DataFault, match="the tokenizer has no eos_token"):
        ChatFormat(tokenizer)


def test_a_template_that_rewrites_history_is_refused() -> None:
    chat = ChatFormat(byte_tokenizer(FORGETFUL))
    single, double = CONVERSATION[1:3], CONVERSATION[1:5]
    ids, _ = chat.encode(single)  # one answer has no history
    assert ids[: len(chat.prompt(single[:1]))] == chat.prompt(single[:1])
    for work in (lambda: chat.encode(double), lambda: chat.prompt(double[:-1])):
        with pytest.raises(DataFault, match="not rendered after an unchanged beginning"):
            work()


def test_minimind_keeps_its_empty_thought_in_the_prompt() -> None:
    # Its template renders "<think>\n\n</think>\n\n" before every answer: the model is given it and
    # is not trained to write it.
    chat = ChatFormat(real_tokenizer("minimind"))
    prompt: Any = chat.tokenizer.decode(chat.prompt(CONVERSATION[:2]))
    assert prompt.endswith("<|im_start|>assistant\n<think>\n\n</think>\n\n")
    (run,) = supervised_runs(chat, CONVERSATION[1:3])
    assert chat.tokenizer.decode(run) == CONVERSATION[2].content + "<|im_end|>"
