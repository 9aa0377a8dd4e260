"""Accuracy of reasoning: the final answer at the end of a chain of thought."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction

from trainer.evaluation.metrics.base import Judged, RowMetric
from trainer.evaluation.metrics.tokens import normalised

_MARKER = re.compile(
    r"\b(?:the |my |our )?(?:final |correct |right )?(?:answer|option|choice)(?: is|\s*[:=])\s*:?"
    r"|####|\\boxed\{"
    r"|(?:最终|正确|参考)?(?:答案|选项)\s*(?:应该|应当|应)?(?:是|为|选|[:：])\s*[:：]?"
    r"|(?:故|应|因此|所以)?(?:本题)?(?:正确的?)?选(?:择)?(?:项)?(?:是|为)?\s*[:：]?(?=\s*[(（【]?[A-H](?![A-Za-z]))",
    re.I,
)
_FRACTION = re.compile(r"\\d?frac\{(-?\d+)\}\{(\d+)\}")
_NUMBER = re.compile(
    r"(?<![\w.)])-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)(?:\s?/\s?\d+(?!\d*[.]\d))?|\d+(?:\.\d+)?"
)
_LETTERS = re.compile(r"(?<![A-Za-z\\])[A-H](?:[\s、,，]*[A-H])*(?![A-Za-z])")
# "B. 9" opens an answer; in the middle of one it is an option of the question.
_FIRST_LETTERS = re.compile(r"[(\[【*]*([A-H])[)\]】*]*[.、:)](?![A-Za-z])")
_ONLY_LETTERS = re.compile(r"[\s(（【\[*$]*[A-H](?:[\s、,，]*[A-H])*[\s)）】\]}*.。:：$]*")

#: Digits; Python refuses to read numbers of some thousand, and no answer is one.
_LONGEST_NUMBER = 100


class AnswerAccuracy(RowMetric):
    """Whether the final answer is the right one, whatever led to it.

    It is what stands behind the last "The answer is", "####", "\\boxed{", "答案：", "故选" or the like. The
    gold answer says what kind is looked for: option letters (a set), a number (compared as a fraction,
    so 6, 6.0 and $6 are one, as are 0.5 and 1/2; units do not count), else text. Answers without such
    words are judged by their last number, their last line, or letters that they open with or that have a
    line for themselves.
    """

    name = "answer_accuracy"

    def score(self, row: Judged) -> float:
        """0 or 1; a cut answer has 0."""
        if not row.finished or not row.answer.strip():
            return 0.0
        gold, answer = _clean(row.gold), _clean(row.answer)
        tail, said = _tail(gold), _tail(answer)
        opening = tail is not None and _FIRST_LETTERS.match(tail)
        if opening or _ONLY_LETTERS.fullmatch(gold if tail is None else tail):
            return float(_letters(answer, said) == _letters(gold, tail))
        right = _number(gold, tail)
        if right is not None:
            return float(_number(answer, said) == right)
        return float(_text(answer, said) == _text(gold, tail))


def _clean(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).replace("−", "-")
    return _FRACTION.sub(r"\1/\2", text).strip()


def _tail(text: str) -> str | None:
    """The line behind the last marker; None without a marker or with nothing behind it."""
    ends = [match.end() for match in _MARKER.finditer(text)]
    if not ends:
        return None
    return text[ends[-1] :].strip().split("\n")[0].strip() or None


def _letters(text: str, tail: str | None) -> frozenset[str]:
    if tail is None:
        alone = [line for line in text.split("\n") if _ONLY_LETTERS.fullmatch(line)]
        opening = _FIRST_LETTERS.match(text)
        tail = alone[-1] if alone else opening.group(1) if opening else ""
    found = _LETTERS.search(tail)
    return frozenset(re.sub(r"[^A-H]", "", found.group())) if found else frozenset()


def _number(text: str, tail: str | None) -> Fraction | None:
    found = _NUMBER.findall(text if tail is None else tail)
    if not found:
        return None
    words = re.sub(r"[,\s]", "", found[-1 if tail is None else 0])
    whole, _, below = words.partition("/")
    if len(words) > _LONGEST_NUMBER or (below and not int(below)):
        return None
    return Fraction(whole) / int(below or 1)


def _text(text: str, tail: str | None) -> str:
    lines = text.split("\n")
    return normalised(lines[-1] if tail is None else tail)
