"""Is an answer a list, of as many things as were asked for?"""

from __future__ import annotations

import re

from data_modules.cleaning.behaviours import LIST_MARKER
from trainer.evaluation.metrics.base import UNJUDGED, Judged, RowMetric
from trainer.evaluation.metrics.tokens import UNSPACED, normalised

_MARKED = re.compile(rf"^\s*{LIST_MARKER}(.*)")
_LEAD_IN = re.compile(r"[:：]\s*$")
_INLINE_LEAD = re.compile(
    r"^[^,，、;；\n]*?(?:[:：]|\s[-–—]\s|\b(?:are|include|including)\b|包括|有)\s*"
)
_INLINE = re.compile(r"[;；、，]|,(?!\d{3}(?!\d))|\s(?:and|or)\s")
#: Longest item of a list without markers, in words or Chinese characters; sentences are longer.
_LONGEST_ITEM = 16
_LONGEST_INLINE_ITEM = 8
_WORDS = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")

_EN = (
    *("two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_NUMBERS = {word: number for number, word in enumerate(_EN, start=2)}
_ASKS_EN = (
    r"\b(?:give|list|name|provide|suggest|recommend|write|come up with|think (?:of|up)|brainstorm|"
    r"generate|share|tell|what are|propose|offer|describe|create|make|find|identify|i need|i want|show)\b"
)
_UNITS = (
    r"(?!\s*-|\s+(?:year|month|week|day|hour|minute|second|dollar|euro|percent|mile|km|kilo|gram|pound"
    r"|people|person|kid|child|guest|student|word|sentence|of\b|or\b|and\b|to\b))"
)
_COUNT_EN = re.compile(
    rf"{_ASKS_EN}[^.?!\n,:;]{{0,40}}?(?<![\w$.-])(\d{{1,2}}|{'|'.join(_EN)}){_UNITS}(?![\w%.):])",
    re.I,
)
_ONE_EN = re.compile(
    rf"{_ASKS_EN}[^.?!\n,:;]{{0,20}}?\b(?:an? (?:\w+ ){{0,2}}?(?:idea|suggestion|example|reason|way|tip|"
    r"recommendation|name|slogan|title)|one (?!of)|a single )\b",
    re.I,
)
_ZH_DIGITS = "一二三四五六七八九十两"
_COUNT_ZH = re.compile(
    r"(?:列出|给出|提供|列举|推荐|说出|写出|想出|建议|举出|给我|提出|写|想|举|说|介绍|分享|起|取|生成|找出|至少|创作|设计)"
    rf"[^，。！？；\n]{{0,10}}?(?<![\d第{_ZH_DIGITS}])(\d{{1,2}}|[{_ZH_DIGITS}]{{1,3}})\s*"
    r"(?:个|种|条|项|点|款|部|本|首|道|类|件|句|位|家|篇|则|样|份|组|处|座|招)(?!人|月|小时|星期)"
)


class ListValidity(RowMetric):
    """Whether an answer is a list of two or more distinct items, and of the number asked for.

    Items stand behind list markers; or on two lines or more that are no longer than a phrase, a line
    that ends in a colon aside; or between commas of a single line of three short items or more. Where
    the request says how many ("five ideas", "列出三个"), there must be so many. Rows that ask for one
    thing are not judged. What the items say is not looked at.
    """

    name = "list_validity"

    def score(self, row: Judged) -> float:
        """0 or 1; a cut answer has 0."""
        asked = requested_number(row.request)
        if asked == 1:
            return UNJUDGED
        items = list_items(row.answer)
        plain = [normalised(item) or item.strip() for item in items]
        valid = len(items) >= 2 and all(plain) and len(set(plain)) == len(plain)
        return float(row.finished and valid and asked in (None, len(items)))


def list_items(text: str) -> list[str]:
    """The items of a list; empty where a text is none. An item may be empty."""
    lines = [line for line in text.strip().split("\n") if line.strip()]
    marked = [match.group(4) for match in map(_MARKED.match, lines) if match]
    if len(marked) >= 2:
        return marked
    plain = [line.strip() for line in lines if not _LEAD_IN.search(line)]
    if len(plain) >= 2:
        short = all(len(_WORDS.findall(line)) <= _LONGEST_ITEM for line in plain)
        return plain if short else []
    if len(plain) == 1:
        return _inline_items(plain[0])
    return []


def _inline_items(line: str) -> list[str]:
    body = line[match.end() :] if (match := _INLINE_LEAD.match(line)) else line
    items = [part.strip(" .。") for part in _INLINE.split(body) if part.strip(" .。")]
    short = all(len(_WORDS.findall(item)) <= _LONGEST_INLINE_ITEM for item in items)
    return items if len(items) >= 3 and short else []


def requested_number(request: str) -> int | None:
    """How many things a request asks for, in English or Chinese; None where it does not say."""
    found = _COUNT_EN.search(request)
    if found:
        word = found.group(1).lower()
        return int(word) if word.isdigit() else _NUMBERS.get(word)
    found = _COUNT_ZH.search(request)
    if found:
        return _zh_number(found.group(1))
    return 1 if _ONE_EN.search(request) else None


def _zh_number(text: str) -> int:
    if text.isdigit():
        return int(text)
    digits = {digit: value for value, digit in enumerate("一二三四五六七八九", start=1)} | {"两": 2}
    if "十" not in text:
        return digits[text[-1]]
    tens, _, ones = text.partition("十")
    return 10 * digits.get(tens, 1) + digits.get(ones, 0)
