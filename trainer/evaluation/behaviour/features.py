"""What an answer looks like, by itself and beside the text of its request, as numbers.

Never the request by itself: a judge that reads the task off the prompt would not see crosstalk.
"""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
from rapidfuzz import fuzz

from data_modules.cleaning.behaviours import LIST_MARKER, behaviours_of
from data_modules.cleaning.code_signs import code_lines
from data_modules.config import Behaviour

#: Characters of an answer, and of a request's end, that are looked at.
LENGTH = 1500
_HAN = re.compile(r"[\u3400-\u9fff]")
_LATIN = re.compile(r"[A-Za-z]")
_DIGIT = re.compile(r"\d")
_WORD = re.compile(r"[\u3400-\u9fff]|[^\W\u3400-\u9fff]+")
_RARE = re.compile(r"[\u3400-\u9fff]{2}|[^\W\u3400-\u9fff]{5,}")
_LIST_LINE = re.compile(rf"[ \t]*{LIST_MARKER}")
_NUMBERED = re.compile(r"[ \t]*[(（]?\d{1,2}[.)、．）]")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_SENTENCE_END = re.compile(r"[.!?。！？](?=\s|$|[\u3400-\u9fff])")
_ITEMS = re.compile(r"[、,，;；\n]+")
_CALCULATION = re.compile(r"\d\s*[-+*/×÷=<>]\s*\$?\d|=\s*\$?\d|\\frac|\\sqrt")
_CONCLUDES = re.compile(
    r"(?:答案|故选|选|因此|所以|therefore|thus|hence|so the|answer)\W{0,4}(?:is)?\W{0,3}[A-D\d]?",
    re.I,
)
_LAST_OPTION = re.compile(r"[A-D]{1,4}\W{0,3}$")
_FIRST_PERSON = re.compile(r"\b(?:I|my|me|we|our)\b|我|咱")
_SECOND_PERSON = re.compile(r"\b(?:you|your)\b|你|您", re.I)
_PAST = re.compile(r"\b(?:was|were|had|did)\b|\w{3,}ed\b|了|过")
_PRESENT = re.compile(r"\b(?:is|are|has|can|will)\b|是|会|可以")
_PARTICLES = re.compile(r"[吗呢吧啊呀哦嗯哈嘛啦]")
_PAIRED = re.compile(r"^[^:：\n]{1,60}[:：] ?\S", re.M)
_MARKS = tuple("\n,.:;(\"'`$=_-*#!?，。、：；（“《！？/…{\\<[|")


def answer_features(answer: str) -> list[float]:
    """Structure of an answer alone."""
    text = answer.strip()[:LENGTH]
    size = max(1, len(text))
    lines = [line for line in text.split("\n") if line.strip()]
    words = _WORD.findall(text)
    han, latin = len(_HAN.findall(text)), len(_LATIN.findall(text))
    items = [one for one in _ITEMS.split(text) if one.strip()]
    shown = behaviours_of(text)
    listed = sum(_LIST_LINE.match(line) is not None for line in lines)
    first, last = text[:1], text[-1:]
    sentences = len(_SENTENCE_END.findall(text))
    return [
        math.log(len(answer.strip()) + 1),
        math.log(len(words) + 1),
        math.log(len(lines) + 1),
        han / size,
        latin / size,
        len(_DIGIT.findall(text)) / size,
        sum(map(str.isupper, text)) / size,
        sum(map(str.isspace, text)) / size,
        sum(len(word) for word in words) / max(1, len(words)),
        len(set(words)) / max(1, len(words)),
        listed,
        listed / max(1, len(lines)),
        sum(_NUMBERED.match(line) is not None for line in lines),
        code_lines(lines) / max(1, len(lines)),
        math.log(max(map(len, lines), default=0) + 1),
        math.log(np.mean([len(line) for line in lines]) + 1) if lines else 0.0,
        len(items),
        math.log(max(map(len, items), default=0) + 1),
        size / max(1, len(items)),
        sentences,
        size / (sentences + 1),
        float(first.isupper()),
        float(first.isdigit()),
        float(first.islower()),
        float(last.isalnum()),
        float(last in ".。"),
        float(last in "?？"),
        float(last in "!！"),
        float(last.isdigit()),
        float("\n\n" in text),
        float(any(line.startswith(("  ", "\t")) for line in lines)),
        *(float(one in shown) for one in Behaviour),
        len(_CALCULATION.findall(text)),
        len(_CONCLUDES.findall(text)),
        float(bool(_LAST_OPTION.search(text))),
        *(
            len(one.findall(text)) / max(1, len(words))
            for one in (_FIRST_PERSON, _SECOND_PERSON, _PAST, _PRESENT, _PARTICLES)
        ),
        len(_PAIRED.findall(text)) / max(1, len(lines)),
        *(text.count(mark) / math.sqrt(size) for mark in _MARKS),
    ]


def relative_features(request: str, answer: str) -> list[float]:
    """An answer beside the text of its request."""
    text, asked = answer.strip()[:LENGTH], request.strip()[-LENGTH:]
    body = request.partition("\n")[2].strip() or request
    head = request.partition("\n")[0]
    body = body[:LENGTH]
    low, low_asked = text.lower(), asked.lower()
    words = _WORD.findall(low)
    known = set(_WORD.findall(low_asked))
    body_words = _WORD.findall(body.lower())
    grams = set(pairwise(words))
    body_grams = set(pairwise(body_words))
    numbers = _NUMBER.findall(text)
    items = [one.strip().lower() for one in _ITEMS.split(text) if one.strip()]
    rare = set(_RARE.findall(low))
    size, body_size = max(1, len(text)), max(1, len(body))
    return [
        sum(word in known for word in words) / max(1, len(words)),
        len(grams & body_grams) / max(1, len(grams)),
        len(grams & body_grams) / max(1, len(body_grams)),
        len(set(body_words) & set(words)) / max(1, len(set(body_words))),
        math.log(size / body_size),
        len(_HAN.findall(text)) / size - len(_HAN.findall(body)) / body_size,
        len(_LATIN.findall(text)) / size - len(_LATIN.findall(body)) / body_size,
        fuzz.ratio(text[:500], body[:500]) / 100,
        float(low in low_asked),
        float(low in head.lower()),
        sum(one in low_asked for one in items) / max(1, len(items)),
        sum(number in asked for number in numbers) / max(1, len(numbers)),
        sum(number not in asked for number in numbers),
        float(text[:12].lower() == body[:12].lower()),
        sum(word in low_asked for word in rare) / max(1, len(rare)),
        sum(word in low_asked for word in rare),
        len(_HAN.findall(text)) / size - len(_HAN.findall(asked)) / max(1, len(asked)),
        len(_HAN.findall(text)) / size - len(_HAN.findall(head)) / max(1, len(head)),
    ]
