"""A quality score of a row in [0, 1], from surface signs of its answer alone.

The score is a product, so one grave fault is enough to sink a row and many good signs cannot hide it::

    quality = length * repetition * symbols * ending * encoding

    length      0.5 + 0.5 min(1, weight / 12); weight = characters, a Chinese one counting 3
    repetition  1 - max(0, share - 0.2) / 0.8; share = :func:`repeated_share`
    symbols     0.4 + 0.6 min(1, ratio / 0.5); ratio = bytes of UTF-8 that are no ASCII symbol among
                those that are no blank, over the first 1000 characters
    ending      0.6 after a comma, colon or dash, and with an open fence; 0.9 where an answer of 60
                characters or more ends in a letter, as if cut; else 1
    encoding    0.2 with mojibake, U+FFFD or control characters; else 1

It knows nothing of facts or style: a row's own ``quality`` (a judge's score) takes its place.
"""

from __future__ import annotations

import re
import string
from functools import lru_cache

from data_modules.records import Record

_CONT = "\u0080-\u00bf€‚ƒ„…†‡ˆ‰Š‹Œ\u017dž‘’“”•–—˜™š›œŸ"
#: Signs of text decoded with the wrong character set, lost or binary.
FAULTY_TEXT = re.compile(
    "|".join(
        (
            # two-byte sequences read as Latin-1 or Windows-1252: é as Ã©, ° as Â°
            r"[\u00c2\u00c3][\u0080-\u00bf]",
            rf"\u00c3[{_CONT}](?![ ”’])",
            # three bytes: quotes and dashes as â€™, Chinese as ä½\xa0å¥½
            rf"\u00e2(?:€[{_CONT}]|\u0080[\u0080-\u00bf])",
            rf"(?:[\u00e0-\u00ef][{_CONT}]{{2}}){{2}}",
            rf"(?:[ÐÑ][{_CONT}]){{2}}",
            "ï¿½|ï»¿",
            # UTF-8 read as GBK; fresh and freed memory of Visual C++
            "锟斤|鈥[榛渢檚]|烫烫烫|屯屯屯",
            r"[\ufffd\x00-\x08\x0b\x0e-\x1f\x7f\u0080-\u0084\u0086-\u009f\ud800-\udfff]",
        )
    )
)
# Each alternative has one of these; a character class alone is searched ten times as fast.
_SUSPECT = re.compile(
    r"[\u00c2\u00c3\u00e0-\u00efÐÑ锟鈥烫屯\ufffd\x00-\x08\x0b\x0e-\x1f\x7f-\x9f\ud800-\udfff]"
)
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_BLANKS = string.whitespace.encode()
_SYMBOLS = string.punctuation.encode()
_HANGING = (",", "，", "、", ":", "：", "；", "-", "—", "（")
_CJK_RANGE = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+")

#: Words, or characters where words are not spaced, in one n-gram; and the fewest n-grams to judge by.
WORDS = 3
CHARACTERS = 10
FEWEST = 10


@lru_cache(maxsize=16)
def faulty_text(text: str) -> str | None:
    """The first sign of broken encoding, or None."""
    if text.isascii():
        if text.replace("\n", "").isprintable():
            return None
        match = _CONTROL.search(text)
    else:
        match = FAULTY_TEXT.search(text) if _SUSPECT.search(text) else None
    return match.group() if match else None


@lru_cache(maxsize=16)
def repeated_share(text: str) -> float:
    """Share of a text's n-grams that occurred before in it, in [0, 1).

    A passage said m times over has 1 - 1/m. n-grams are of :data:`WORDS` words, or of
    :data:`CHARACTERS` characters where the text has few blanks (Chinese, Japanese, "haaaaaa");
    texts with fewer than :data:`FEWEST` n-grams have 0.
    """
    words = text.split()
    if 12 * len(words) < len(text):
        if len(text) < CHARACTERS + FEWEST:
            return 0.0
        count = len(text) - CHARACTERS + 1
        return 1 - len({text[i : i + CHARACTERS] for i in range(count)}) / count
    if len(words) < WORDS + FEWEST - 1:
        return 0.0
    return 1 - len(set(zip(words, words[1:], words[2:], strict=False))) / (len(words) - WORDS + 1)


def quality_of(record: Record) -> float:
    """The record's own score, or the one of the module's formula."""
    if record.quality is not None:
        return min(1.0, max(0.0, record.quality))
    answer = record.answer.strip()
    if not answer:
        return 0.0
    weight = len(answer)
    if weight < 12 and not answer.isascii():
        weight += 2 * sum(map(len, _CJK_RANGE.findall(answer)))
    score = 0.5 + 0.5 * min(1.0, weight / 12)
    share = repeated_share(record.answer)
    if share > 0.2:
        score *= 1 - (share - 0.2) / 0.8
    head = answer[:1000].encode("utf-8", "replace").translate(None, _BLANKS)
    ratio = len(head.translate(None, _SYMBOLS)) / max(1, len(head))
    score *= 0.4 + 0.6 * min(1.0, ratio / 0.5)
    if answer.endswith(_HANGING) or answer.count("```") % 2:
        score *= 0.6
    elif len(answer) >= 60 and answer[-1].isalpha():
        score *= 0.9
    if faulty_text(answer):
        score *= 0.2
    return score
