"""Each rule on rows that it must catch and rows that it must not, in Chinese and English."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from data_modules.cleaning import Rule, row_rules
from data_modules.config import Behaviour, CleaningConfig, TaskConfig
from data_modules.records import Message, Record
from tests.shared_data import REPOSITORY

TASKS = {
    "qa": TaskConfig(
        tag="[问答 QA]",
        constraint="Only answer the question.",
        tags={"zh": "【问答】", "en": "[ANSWER]"},
        constraints={"zh": "只回答问题本身。"},
        answer_languages=["zh", "en"],
        forbidden=[Behaviour.list, Behaviour.json],
    ),
    "translation": TaskConfig(tag="[翻译]", translates=True, answer_languages=["zh", "en"]),
    "german": TaskConfig(answer_languages=["de"]),
}


def row(answer: str, request: str = "What is it?", task: str = "qa", **fields: Any) -> Record:
    """A record of one turn; ``text`` is an input apart from the instruction."""
    text = fields.pop("text", None)
    if text is not None:
        fields["instruction"] = request
        request = f"{request}\n{text}"
    messages = (Message("user", request), Message("assistant", answer))
    return Record(task, messages, "rows.jsonl:1", **fields)


def rule(**settings: Any) -> Rule:
    """The one rule that the settings switch on."""
    [only] = row_rules(CleaningConfig(**settings), TASKS)
    return only


def verdict(one: Rule, record: Record) -> str | None:
    return one.check(record, TASKS[record.task])


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "  \n",
        "N/A",
        "n/a.",
        "TODO",
        "...",
        "……",
        "[insert answer here]",
        "<answer>",
        "null",
        "---",
        "Your answer here",
        "<output>",
        "（答案）",
        "待补充",
        "【此处填写答案】",
        "略",
        "暂无内容。",
        "xxx",
        "Lorem ipsum dolor sit amet",
        "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt.",
    ],
)
def test_placeholders_are_caught(answer: str) -> None:
    assert verdict(rule(placeholder=True), row(answer))


@pytest.mark.parametrize(
    "answer",
    [
        "None",
        "No",
        "无",
        "0",
        "A",
        "C",
        "是",
        "-1",
        "Todo lists help.",
        "N/A means not applicable.",
        "工学",
        "The answer is 4.",
        "暂无证据表明此事属实。",
        "∅",
        "text",
        "Output",
        "答案",
        "undefined",
        "x",
    ],
)
def test_short_answers_are_no_placeholders(answer: str) -> None:
    assert verdict(rule(placeholder=True), row(answer)) is None


@pytest.mark.parametrize(
    "text",
    [
        "CafÃ© in SÃ£o Paulo",
        "Itâ€™s late",
        "20Â°C",
        "lost \ufffd letter",
        "nul\x00byte",
        "bell\x07",
        "锟斤拷锟斤拷",
        "你好世界，今天".encode().decode("latin-1"),
        "今天天气很好".encode().decode("cp1252", "ignore"),
        "Привет".encode().decode("latin-1"),
        "naïve café".encode().decode("cp1252"),
        "ï»¿text",
    ],
)
def test_broken_encoding_is_caught_in_every_turn(text: str) -> None:
    encoding = rule(encoding=True)
    assert "answer" in (verdict(encoding, row(text)) or "")
    assert "prompt" in (verdict(encoding, row("fine", request=text)) or "")


@pytest.mark.parametrize(
    "text",
    [
        "Café in São Paulo, naïve façade",
        "It’s “late” — very…",
        "20°C ± 1",
        "ÂME, NÃO, ÉTÉ, Ångström",
        "你好，世界！",
        "Привет, мир",
        "línea\tuno\r\nlínea dos",
        "日本語のテキスト",
        "«été» à l’école",
        "😀 emoji",
        "a\u200bb",
    ],
)
def test_sound_encoding_passes(text: str) -> None:
    assert verdict(rule(encoding=True), row(text)) is None


def test_open_fences() -> None:
    fence = rule(open_fence=True)
    assert verdict(fence, row("代码如下：\n```python\nprint(1)\n"))
    assert verdict(fence, row("```\na\n```\nand\n```js\nb"))
    assert verdict(fence, row("Run:\n```python\nprint(1)\n```\nDone.")) is None
    assert verdict(fence, row("no `code` but ``this``")) is None


REFUSALS = [
    "I'm sorry, but I can't help with that request.",
    "I cannot assist with this.",
    "Sorry, I'm unable to provide that information.",
    "Unfortunately, I am not able to generate images.",
    "I apologize, but I can’t discuss this topic.",
    "As an AI language model, I do not have personal opinions.",
    "Well. As an artificial intelligence, I cannot feel pain.",
    "抱歉，我无法提供相关信息。",
    "对不起，我不能协助您完成这个请求。",
    "作为一个人工智能语言模型，我无法给出个人看法。",
    "非常抱歉，我没办法回答这个问题。",
    "作为AI助手，我不能参与此类讨论。",
]
BENIGN = [
    "I'm sorry, but I can't come to the party tonight.",
    "Sorry I'm late.",
    "The model said: I cannot assist with this.",
    "He apologised because he could not provide the papers.",
    "As an AI researcher, I work on language models that cannot see.",
    "I can't access my account since yesterday.",
    "I cannot write with my left hand.",
    "无法提供服务的原因是停电。",
    "我无法访问我的账户。",
    "An AI language model predicts the next word and cannot see.",
    "对不起，我今天不能去上学。",
    "他说他无法提供证据。",
    "人工智能无法完全取代人类。",
    "作为一名老师，我不能迟到。",
    "我不能吃辣的食物。",
    "语言模型不会思考。",
]


@pytest.mark.parametrize("answer", REFUSALS)
def test_refusals_are_caught(answer: str) -> None:
    assert verdict(rule(refusal=True), row(answer))


@pytest.mark.parametrize("answer", BENIGN)
def test_benign_mentions_are_no_refusals(answer: str) -> None:
    assert verdict(rule(refusal=True), row(answer)) is None


def test_a_translated_refusal_is_none() -> None:
    answer, source = "Sorry, I cannot provide a receipt.", "抱歉，我无法提供收据。"
    refusal = rule(refusal=True)
    assert verdict(refusal, row(answer, "译成英语。", "translation", text=source)) is None
    assert verdict(refusal, row(answer, "译成英语。", "translation", text="给我收据。"))


@pytest.mark.parametrize(
    "answer",
    [
        "[问答 QA] It rains.",
        "It rains. Only answer the question.",
        "【问答】下雨。",
        "[翻译]\n下雨。",
        "只回答问题本身。是的。",
    ],
)
def test_tags_of_any_task_and_language_are_caught(answer: str) -> None:
    assert verdict(rule(tag_leak=True), row(answer, task="translation"))


def test_tags_that_the_request_speaks_of_pass() -> None:
    leak = rule(tag_leak=True)
    assert verdict(leak, row("The tag is [问答 QA].", "What does [问答 QA] mean?")) is None
    assert verdict(leak, row("问答 QA without brackets, [QA] too")) is None


def test_forbidden_behaviours() -> None:
    foreign = rule(foreign_behaviour=True)
    assert "list" in (verdict(foreign, row("1. one\n2. two")) or "")
    assert "json" in (verdict(foreign, row('{"answer": 4}')) or "")
    assert verdict(foreign, row("It is 1. one and 2. two.")) is None
    assert verdict(foreign, row("1. one\n2. two", task="german")) is None


@pytest.mark.parametrize(
    ("record", "wrong"),
    [
        (row("Это не английский язык."), True),
        (row("これは英語ではありません。"), True),
        (row("Das ist nicht die Sprache, die wir wollen, und auch nicht eine andere."), True),
        (row("Das ist nicht die Sprache, die wir wollen.", task="german"), False),
        (row("This is not the language.", task="german"), True),
        (row("iPhone 12", task="german"), False),
        (row("天气很好。"), False),
        (row("It is fine, déjà vu."), False),
        (row("42"), False),
        (row("`Это код` is Russian."), False),
    ],
)
def test_answer_languages(record: Record, wrong: bool) -> None:
    assert bool(verdict(rule(wrong_language=True), record)) == wrong


@pytest.mark.parametrize(
    ("instruction", "text", "answer", "wrong"),
    [
        ("译成英语。", "今天天气很好。", "The weather is fine today.", False),
        ("译成英语。", "今天天气很好。", "今天的天气真不错。", True),
        ("译成英语。", "今天天气很好。", "今天天气很好。", True),
        ("Translate into Chinese.", "The weather is fine.", "天气很好。", False),
        ("Translate into Chinese.", "The weather is fine.", "The weather is good.", True),
        (
            "Translate into Chinese.",
            "Il fait beau aujourd'hui et je suis là.",
            "It is a fine day.",
            True,
        ),
        ("Translate into English.", "Il fait beau et je suis là.", "天气很好，我在这里。", True),
        ("请把下面的英文翻译成中文。", "Who is Tom?", "汤姆是谁？", False),
        ("把这句话译成汉语。", "Tom.", "汤姆。", False),
        ("英译中", "Who is Tom?", "Who is he?", True),
        ("中译英", "汤姆是谁？", "Who is Tom?", False),
        ("Translate this.", "IBM", "IBM", True),
    ],
)
def test_translations(instruction: str, text: str, answer: str, wrong: bool) -> None:
    record = row(answer, instruction, "translation", text=text)
    assert bool(verdict(rule(wrong_language=True), record)) == wrong


@pytest.mark.parametrize("mark", ["\n", "：", ": "])
def test_translations_of_one_prompt(mark: str) -> None:
    """Instruction and text may come as one."""
    wrong = rule(wrong_language=True)
    request = f"请把下面的句子译成英语{mark}今天天气很好。"
    assert verdict(wrong, row("It is fine today.", request, "translation")) is None
    assert verdict(wrong, row("今天天气不错。", request, "translation"))
    assert verdict(wrong, row("今天天气很好。", request, "translation"))


def test_lengths() -> None:
    length = rule(min_answer_chars=3, max_answer_chars=5)
    assert [bool(verdict(length, row("x" * n + " \n"))) for n in range(2, 7)] == [1, 0, 0, 0, 1]
    prompt = rule(max_prompt_chars=10)
    assert verdict(prompt, row("fine", request="x" * 11))
    assert verdict(prompt, row("fine", request="x" * 10)) is None


@pytest.mark.parametrize(
    "answer",
    [
        "the same thing again " * 8,
        "我喜欢吃苹果。" * 8,
        "ha" * 40,
        "行\n" * 30,
        "I am fine. " + "Yes, yes, yes. " * 20,
    ],
)
def test_repetition_is_caught(answer: str) -> None:
    assert verdict(rule(max_repetition=0.6), row(answer))


@pytest.mark.parametrize(
    "answer",
    [
        "no no no",
        "春天来了，花开了，草绿了，鸟儿在枝头唱歌，孩子们在草地上奔跑。",
        "You can use it as a cup.\nYou can use it as a lamp.\nYou can use it as a vase for flowers.",
        "for i in range(3):\n    print(i)\nfor j in range(4):\n    print(j)\n",
    ],
)
def test_ordinary_repeats_pass(answer: str) -> None:
    assert verdict(rule(max_repetition=0.6), row(answer)) is None


def test_low_quality() -> None:
    quality = rule(min_quality=0.5)
    assert verdict(quality, row("#$%&*()!@#$%^&*()_+!@#$%"))
    assert verdict(quality, row("A fine answer.", quality=0.3))
    assert verdict(quality, row("工学")) is None
    assert verdict(quality, row("#$%&*()!@#$%^&*()_+!@#$%", quality=0.9)) is None


def test_negative_rows_may_be_wrong_but_not_broken() -> None:
    settings = CleaningConfig(
        placeholder=True, refusal=True, tag_leak=True, foreign_behaviour=True, wrong_language=True,
        max_repetition=0.6, min_quality=0.5,
    )  # fmt: skip
    rules = row_rules(settings, TASKS)
    for answer in ("N/A", REFUSALS[0], "[翻译] x", "1. one\n2. two", "Это не то.", "ha" * 40):
        assert any(verdict(one, row(answer)) for one in rules)
        assert not any(verdict(one, row(answer, negative=True)) for one in rules)
    assert verdict(rule(encoding=True), row("\ufffd", negative=True))


def test_presets_name_every_setting_and_switch_rules_on() -> None:
    names = {}
    for preset in ("none", "standard", "strict"):
        path = Path(REPOSITORY, f"conf/cleaning/{preset}.yaml")
        assert f"cleaning@data.cleaning={preset}" in path.read_text(encoding="utf-8").split("\n")[0]
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert set(values) == set(vars(CleaningConfig())) - {"keep", "drop", "max_drop_ratio"}
        names[preset] = [one.name for one in row_rules(CleaningConfig(**values), TASKS)]
    assert names["none"] == []
    assert names["standard"] == [
        "placeholder", "encoding", "open_fence", "answer_length", "refusal", "tag_leak",
        "foreign_behaviour", "wrong_format", "wrong_language", "repetition",
    ]  # fmt: skip
    assert set(names["strict"]) == {*names["standard"], "prompt_length", "quality"}
