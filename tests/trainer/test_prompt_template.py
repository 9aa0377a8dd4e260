"""The exported chat template gives users the prompt of training, and without a task nothing new."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from jinja2.exceptions import TemplateError
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from data_modules.benchmark import build_tokenizer
from data_modules.chat import PLAIN_TEMPLATE, ChatFormat
from data_modules.config import BoundaryConfig, TaskConfig
from data_modules.mixture import PromptConfig
from data_modules.records import Message, Record
from data_modules.wording import NO_BOUNDARY, prompt_for, worded
from tests.shared_data import CHATML, REAL_TOKENIZERS, byte_tokenizer, real_tokenizer
from trainer.config.schema import ModelConfig
from trainer.export import export
from trainer.model import load_tokenizer
from trainer.prompt_template import bounded_template, bounded_tokenizer, plain_template

TASKS = {
    "translation": TaskConfig(
        tag="[翻译 TRANSLATE]",
        constraint="只输出译文。Only translate.",
        tags={"zh": "[翻译]", "en": "[TRANSLATE]"},
        constraints={"zh": "只输出译文。", "en": "Only translate."},
    ),
    "odd": TaskConfig(tag="\"q'\\ {{ x }} %} 😀", constraint="#}\n{% raw %}\n\t`1`"),
    "half": TaskConfig(constraints={"zh": "只回答。"}),
    "chat": TaskConfig(general=True),
}
LANGUAGES: dict[str, list[str | None]] = {
    "translation": ["zh", "en", "fr", ""],
    "odd": [None],
    "half": ["zh", "en"],
}

# As Llama's: takes the system turn off `messages`, reads it inside a macro, opens with white space.
REASSIGNING = (
    "\n  {% if messages[0]['role'] == 'system' %}{% set system = messages[0]['content'] %}"
    "{% set messages = messages[1:] %}{% else %}{% set system = 'none' %}{% endif %}"
    "{% macro count() %}{{ messages | length }}{% endmacro %}[{{ system }} {{ count() }}]"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)

USER = {"role": "user", "content": "Why?\nSay."}
SINGLE = [USER]
MULTI = [
    {"role": "system", "content": "Be kind."},
    USER,
    {"role": "assistant", "content": "Because."},
    {"role": "user", "content": "Really?"},
]

MADE: dict[str, Callable[[], Any]] = {
    "chatml": lambda: byte_tokenizer(CHATML),
    "plain": lambda: ChatFormat(byte_tokenizer()).tokenizer,
    "word marks": lambda: byte_tokenizer(CHATML, prepend=True),
    "reassigning": lambda: byte_tokenizer(REASSIGNING),
    "benchmark": build_tokenizer,
}


@pytest.fixture(scope="module", params=[*MADE, *REAL_TOKENIZERS])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    """Loaded once: no test may change it."""
    name = request.param
    if name in MADE:
        return MADE[name]()
    return ChatFormat(real_tokenizer(name)).tokenizer


def text_of(tokenizer: Any, turns: list[dict[str, str]], **settings: Any) -> str:
    settings = {"add_generation_prompt": True} | settings
    text: str = tokenizer.apply_chat_template(turns, tokenize=False, **settings)
    return text


def ids_of(tokenizer: Any, turns: list[dict[str, str]], **settings: Any) -> list[int]:
    ids: list[int] = tokenizer.apply_chat_template(
        turns, add_generation_prompt=True, return_dict=False, **settings
    )
    return ids


def trained_on(
    turns: list[dict[str, str]], task: str, language: str, boundary: BoundaryConfig
) -> tuple[Message, ...]:
    """The prompt part of a row as training words it."""
    messages = tuple(Message(**turn) for turn in turns)
    row = Record(task, (*messages, Message("assistant", "x")), "f:1", "f:1", language=language)
    return worded(row, TASKS, boundary, PromptConfig(), "mix", 0).messages[:-1]


@pytest.mark.parametrize("boundary", [BoundaryConfig(), BoundaryConfig(tag=False)])
def test_a_named_task_gives_the_ids_of_training(tokenizer: Any, boundary: BoundaryConfig) -> None:
    chat = ChatFormat(tokenizer)
    exported = bounded_tokenizer(tokenizer, TASKS, boundary)
    for task in TASKS:
        for language in LANGUAGES.get(task, [None]):
            messages = trained_on(SINGLE, task, language or "", boundary)
            settings = {"task": task} | ({} if language is None else {"language": language})
            assert ids_of(exported, SINGLE, **settings) == chat.prompt(messages), settings
            sent = prompt_for(task, USER["content"], TASKS, boundary, language or "")
            assert messages == (Message("user", sent),)


def test_conversations_are_worded_as_in_training(tokenizer: Any) -> None:
    exported = bounded_tokenizer(tokenizer, TASKS, BoundaryConfig())
    worded_turns = [
        {"role": one.role, "content": one.content}
        for one in trained_on(MULTI, "translation", "en", BoundaryConfig())
    ]
    assert [turn["content"] for turn in worded_turns] == [
        "Be kind.",
        "[TRANSLATE] Why?\nSay.\nOnly translate.",
        "Because.",
        "Really?\nOnly translate.",
    ]
    settings = {"task": "translation", "language": "en"}
    assert text_of(exported, MULTI, **settings) == text_of(tokenizer, worded_turns)


def test_without_a_task_nothing_changes(tokenizer: Any) -> None:
    template = tokenizer.chat_template
    exported = bounded_tokenizer(tokenizer, TASKS, BoundaryConfig())
    assert tokenizer.chat_template == template != exported.chat_template
    answered = [*MULTI, {"role": "assistant", "content": "Yes."}]
    for turns, generation in ((SINGLE, True), (MULTI, True), (answered, False)):
        settings = {"add_generation_prompt": generation}
        before = text_of(tokenizer, turns, **settings)
        assert text_of(exported, turns, **settings) == before
        assert text_of(exported, turns, task=None, **settings) == before
        assert text_of(exported, turns, language="zh", **settings) == before
    assert ids_of(exported, SINGLE) == ids_of(tokenizer, SINGLE)


def test_a_loaded_export_is_wrapped_once(tokenizer: Any, tmp_path: Path) -> None:
    plain = tokenizer.chat_template
    exported = bounded_tokenizer(tokenizer, TASKS, BoundaryConfig())
    exported.save_pretrained(tmp_path)
    loaded = load_tokenizer(ModelConfig(path=str(tmp_path)), None)
    assert loaded.chat_template == plain
    generic = isinstance(tokenizer, PreTrainedTokenizerFast)
    by_user = (PreTrainedTokenizerFast if generic else AutoTokenizer).from_pretrained(tmp_path)
    assert by_user.chat_template == exported.chat_template
    settings = {"task": "translation", "language": "zh"}
    assert ids_of(by_user, SINGLE, **settings) == ids_of(exported, SINGLE, **settings)
    # other tasks' texts take the place of the first run's
    again = bounded_tokenizer(by_user, {"new": TaskConfig(tag="N")}, BoundaryConfig())
    assert plain_template(again.chat_template) == plain
    with pytest.raises(TemplateError, match="no task 'odd'; the tasks are new"):
        ids_of(again, SINGLE, task="odd")


def test_unknown_tasks_and_missing_languages_are_refused() -> None:
    exported = bounded_tokenizer(byte_tokenizer(CHATML), TASKS, BoundaryConfig())
    with pytest.raises(TemplateError, match="no task 'x'; the tasks are chat, half, odd, transla"):
        ids_of(exported, SINGLE, task="x")
    with pytest.raises(TemplateError, match="'translation' needs language=, one of zh, en; any o"):
        ids_of(exported, SINGLE, task="translation")
    parts: Any = [{"role": "user", "content": [{"type": "text", "text": "Why?"}]}]
    with pytest.raises(TemplateError, match="must be text"):
        ids_of(exported, parts, task="odd")


def test_a_phase_without_boundary_exports_the_plain_template() -> None:
    wrapped = bounded_template(PLAIN_TEMPLATE, TASKS, BoundaryConfig())
    assert bounded_template(wrapped, TASKS, NO_BOUNDARY) == PLAIN_TEMPLATE
    assert bounded_template(wrapped, {"chat": TASKS["chat"]}, BoundaryConfig()) == PLAIN_TEMPLATE
    assert bounded_template(wrapped, TASKS, BoundaryConfig()) == wrapped


class OneRank:
    """As much of an engine as an export needs."""

    def __init__(self, causal_model: Any) -> None:
        self.module = SimpleNamespace(causal_model=causal_model)

    def whole_parameter(self, _: Any) -> AbstractContextManager[None]:
        return nullcontext()


@pytest.mark.parametrize("boundary", [BoundaryConfig(), NO_BOUNDARY])
def test_the_export_carries_the_template_of_its_phase(
    boundary: BoundaryConfig, tmp_path: Path
) -> None:
    tokenizer = byte_tokenizer(CHATML)
    sizes: dict[str, Any] = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), num_attention_heads=1, **sizes))
    engine: Any = OneRank(model)
    export(engine, tokenizer, TASKS, boundary, tmp_path, "card", is_main=True)
    assert tokenizer.chat_template == CHATML
    exported = PreTrainedTokenizerFast.from_pretrained(tmp_path)
    assert exported.chat_template == bounded_template(CHATML, TASKS, boundary)
    assert ("[翻译]" in exported.chat_template) is boundary.tag


def test_user_turns_keep_their_other_fields_and_the_given_messages_stay() -> None:
    template = "{% for m in messages %}{{ m.name }}:{{ m.content }}{% endfor %}"
    exported = bounded_tokenizer(byte_tokenizer(template), TASKS, BoundaryConfig())
    turns = [{"role": "user", "content": "Why?", "name": "Ann"}]
    said = text_of(exported, turns, task="half", language="zh", add_generation_prompt=False)
    assert said == "Ann:Why?\n只回答。"
    assert turns == [{"role": "user", "content": "Why?", "name": "Ann"}]


def test_several_templates_by_name_are_all_wrapped() -> None:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"default": CHATML, "tool_use": PLAIN_TEMPLATE}
    exported = bounded_tokenizer(tokenizer, TASKS, BoundaryConfig())
    assert {name: plain_template(one) for name, one in exported.chat_template.items()} == (
        tokenizer.chat_template
    )
    assert "[翻译]" in text_of(exported, SINGLE, task="translation", language="zh")
