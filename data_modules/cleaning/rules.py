"""Rules on single rows: each says why a row is left out, or nothing.

Rules about what a right answer looks like pass over negative rows, which are meant to be wrong.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from data_modules.answer_format import has_format
from data_modules.cleaning.behaviours import behaviours_of, is_refusal
from data_modules.cleaning.language import language_of
from data_modules.cleaning.quality import faulty_text, quality_of, repeated_share
from data_modules.config import CleaningConfig, TaskConfig
from data_modules.records import Record


class Rule:
    """One rule.

    Attributes:
        name: as it stands in reports and in ``rejects.jsonl``.
    """

    name: str

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """Why the row is left out; None where it is fine."""
        raise NotImplementedError


class Placeholder(Rule):
    """Answers that stand for none: empty, "N/A", "TODO", "...", "待补充"."""

    name = "placeholder"
    _PATTERN = re.compile(
        r"[\s.…·_\-—–?？。、*#~\u200b-\u200f\ufeff]*"
        # anything of the kind in brackets
        r"|[\[(<{【（「《]+\s*(?:n/?a|null|none|todo|tbd|placeholder|(?:your |the |insert |expected )?"
        r"(?:answer|output|response|text|content)(?: goes)?(?: here)?|insert .{1,40}|.{1,40} here"
        r"|待补充|待填写?|(?:请)?(?:在)?(?:此处|这里)?(?:填写?|输入|插入)?(?:答案|内容|文本|输出|回答))\s*[\])>}】）」》]+"
        # without brackets only what is no label, name or value
        r"|(?:n/a|n\.a\.?|null|nan|todo|tbd|tba|fixme|x{3,}|placeholder|lorem ipsum\b.*"
        r"|(?:your |insert )(?:answer|output|response|text|content)(?: goes)?(?: here)?"
        r"|no (?:answer|output|response)|to be (?:added|completed|determined|filled(?: in)?)"
        r"|待补充|待填写?|待定|待完善|待添加|略|此处省略|省略|暂无(?:内容|回答|答案|数据)?|无(?:内容|回答|答案)"
        r"|占位符?|(?:请)?(?:在)?(?:此处|这里)(?:填写?|输入|插入)(?:答案|内容|文本)?)[.。…!！:：]*",
        re.I | re.S,
    )
    #: No placeholder is longer, but for filler text, whose beginning tells.
    _LONGEST = 80

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """An answer that is nothing but a placeholder."""
        if record.negative:
            return None
        answer = record.answer.strip()
        if len(answer) > self._LONGEST:
            if answer[:11].lower() == "lorem ipsum":
                return "the answer is filler text"
            return None
        if not self._PATTERN.fullmatch(answer):
            return None
        return f"the answer is '{answer}', which stands for none" if answer else "empty answer"


class Encoding(Rule):
    """Mojibake ("Ã©", "â€™"), U+FFFD and control characters in any turn."""

    name = "encoding"

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """Broken characters in any turn."""
        for message in record.messages:
            sign = faulty_text(message.content)
            if sign:
                turn = "answer" if message is record.messages[-1] else "prompt"
                return f"{sign!a} in the {turn}: wrong character set or binary"
        return None


class OpenFence(Rule):
    """Answers with a code fence that is not closed."""

    name = "open_fence"

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """An odd number of ``` in the answer."""
        count = record.answer.count("```")
        return f"{count} code fence marks: one is not closed" if count % 2 else None


class Refusal(Rule):
    """Answers that decline; not where the request itself has such words (to translate, to quote)."""

    name = "refusal"

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """The answer opens with a refusal."""
        if record.negative or not is_refusal(record.answer):
            return None
        if any(is_refusal(line) for line in record.request.split("\n")):
            return None
        return f"the answer declines: '{record.answer[:60]}'"


class TagLeak(Rule):
    """Answers that carry a task's tag or constraint, in any language; not where the request has it."""

    name = "tag_leak"

    def __init__(self, tasks: Mapping[str, TaskConfig]) -> None:
        texts = {
            text.strip(): name
            for name, task in tasks.items()
            for text in (task.tag, task.constraint, *task.tags.values(), *task.constraints.values())
        }
        # A text inside another finds nothing that it does not find itself; one or two letters are
        # in every answer.
        self.texts = {
            text: name
            for text, name in texts.items()
            if len(text) > 2 and not any(o != text and o in text and len(o) > 2 for o in texts)
        }

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """A boundary text in the answer that the request does not have."""
        if record.negative:
            return None
        answer = record.answer
        for text, owner in self.texts.items():
            if text in answer and text not in record.request:
                return f"the answer has '{text}', a boundary text of task {owner}"
        return None


class ForeignBehaviour(Rule):
    """Answers that show what their task forbids."""

    name = "foreign_behaviour"

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """A behaviour of ``TaskConfig.forbidden`` in the answer."""
        if record.negative or not task.forbidden:
            return None
        shown = behaviours_of(record.answer).intersection(task.forbidden)
        if not shown:
            return None
        return "the answer shows " + " and ".join(sorted(behaviour.value for behaviour in shown))


class WrongFormat(Rule):
    """Answers that do not have their task's declared format."""

    name = "wrong_format"

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """The answer as a whole does not match ``TaskConfig.format``."""
        if record.negative or has_format(record.answer, task):
            return None
        return f"the answer '{record.answer[:60]}' does not have the task's format"


_TARGETS = {
    "chinese": "zh",
    "mandarin": "zh",
    "中文": "zh",
    "汉语": "zh",
    "汉文": "zh",
    "华语": "zh",
    "中": "zh",
    "汉": "zh",
    "english": "en",
    "英文": "en",
    "英语": "en",
    "英": "en",
}
_ZH_NAMES = "(中文|汉语|汉文|华语|英文|英语)"
_TARGET = re.compile(
    "|".join(
        (
            r"\b(?:in)?to (?:simplified |traditional |mandarin |standard |fluent |natural |plain )?"
            r"(chinese|mandarin|english)\b",
            rf"(?:[译换变转改写]?[成为]|译到|译作|into |to )(?:简体|繁体|标准|地道的?|流畅的?)?{_ZH_NAMES}",
            r"[英日法德韩俄](?:文|语)?[译翻](中文|汉语|中|汉)|[中汉](?:文|语)?[译翻](英文|英语|英)",
            r"\bin (chinese|english)\b",
            rf"用(?:简体|地道的?)?{_ZH_NAMES}(?:表达|表述|翻译|写|说|怎么说)",
        )
    ),
    re.I,
)
_LETTERS = re.compile(r"[^\W\d_]")
_ENOUGH_LATIN = 12


def target_language(instruction: str) -> str:
    """``zh`` or ``en`` where an instruction says into which to translate, else ""."""
    match = _TARGET.search(instruction)
    return _TARGETS[match.group(match.lastindex or 0).lower()] if match else ""


def _parts(record: Record) -> tuple[str, str]:
    """Instruction and input of a request; the input is "" where the two cannot be told apart."""
    request = record.request
    if record.instruction is not None:
        text = request.removeprefix(record.instruction).strip()
        return record.instruction, text
    # an instruction of one line, then what it is about
    for mark in ("\n", "：", ": "):
        head, found, tail = request.partition(mark)
        if found and tail.strip() and target_language(head):
            return head, tail.strip()
    return request, ""


class WrongLanguage(Rule):
    """Answers not in one of their task's languages; translations that are none.

    Latin letters fewer than a dozen are no sign of a language: they may be a name.
    """

    name = "wrong_language"

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """The answer's language against the task's settings and the request."""
        if record.negative or not (task.answer_languages or task.translates):
            return None
        answer = record.answer
        language = language_of(answer)
        if task.answer_languages and language not in ("", *task.answer_languages):
            allowed = ", ".join(task.answer_languages)
            if language not in _LATIN_CODES or len(_LETTERS.findall(answer)) >= _ENOUGH_LATIN:
                return f"the answer is in '{language}', allowed: {allowed}"
        return self._translation(record, answer, language) if task.translates else None

    def _translation(self, record: Record, answer: str, language: str) -> str | None:
        instruction, source = _parts(record)
        if source:
            if answer.strip() == source and _LETTERS.search(source):
                return "the answer is the input, untranslated"
            spoken = language_of(source)
            # names and numbers may stay as they are
            if language and language == spoken and len(answer.split()) + len(answer) // 6 > 1:
                return f"input and answer are both in '{language}'"
        target = target_language(instruction)
        if target and language and language != target:
            return f"the answer is in '{language}', asked for: {target}"
        return None


_LATIN_CODES = frozenset({"en", "de", "fr", "es", "it", "pt", "nl"})


class AnswerLength(Rule):
    """Answers shorter or longer than allowed, in characters."""

    name = "answer_length"

    def __init__(self, shortest: int, longest: int | None) -> None:
        self.shortest = shortest
        self.longest = longest

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """The length of the stripped answer."""
        length = len(record.answer.strip())
        if length < self.shortest:
            return f"an answer of {length} characters, fewer than {self.shortest}"
        if self.longest is not None and length > self.longest:
            return f"an answer of {length} characters, more than {self.longest}"
        return None


class PromptLength(Rule):
    """Prompts, all turns before the answer, longer than allowed, in characters."""

    name = "prompt_length"

    def __init__(self, longest: int) -> None:
        self.longest = longest

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """The length of all turns before the answer."""
        length = sum(len(message.content) for message in record.messages[:-1])
        if length > self.longest:
            return f"a prompt of {length} characters, more than {self.longest}"
        return None


class Repetition(Rule):
    """Answers that say the same again and again; see :func:`repeated_share`."""

    name = "repetition"

    def __init__(self, largest: float) -> None:
        self.largest = largest

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """The share of repeated n-grams in the answer."""
        if record.negative:
            return None
        share = repeated_share(record.answer)
        if share > self.largest:
            return f"{share:.0%} of the answer's n-grams are repeats, more than {self.largest:.0%}"
        return None


class Quality(Rule):
    """Rows with a low score; see :func:`quality_of`."""

    name = "quality"

    def __init__(self, lowest: float) -> None:
        self.lowest = lowest

    def check(self, record: Record, task: TaskConfig) -> str | None:
        """The row's score."""
        if record.negative:
            return None
        score = quality_of(record)
        return f"quality {score:.2f}, lower than {self.lowest:.2f}" if score < self.lowest else None


def row_rules(cleaning: CleaningConfig, tasks: Mapping[str, TaskConfig]) -> list[Rule]:
    """The rules that are switched on, gravest and cheapest first; the first that fires names the row.

    Args:
        tasks: all tasks: an answer must not carry the tag of any.
    """
    lengths = bool(cleaning.min_answer_chars) or cleaning.max_answer_chars is not None
    rules: Iterable[Rule | None] = (
        Placeholder() if cleaning.placeholder else None,
        Encoding() if cleaning.encoding else None,
        OpenFence() if cleaning.open_fence else None,
        AnswerLength(cleaning.min_answer_chars, cleaning.max_answer_chars) if lengths else None,
        PromptLength(cleaning.max_prompt_chars) if cleaning.max_prompt_chars is not None else None,
        Refusal() if cleaning.refusal else None,
        TagLeak(tasks) if cleaning.tag_leak else None,
        ForeignBehaviour() if cleaning.foreign_behaviour else None,
        WrongFormat() if cleaning.wrong_format else None,
        WrongLanguage() if cleaning.wrong_language else None,
        Repetition(cleaning.max_repetition) if cleaning.max_repetition is not None else None,
        Quality(cleaning.min_quality) if cleaning.min_quality > 0 else None,
    )
    return [rule for rule in rules if rule is not None]
