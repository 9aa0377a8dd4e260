"""Accuracy of classification: which label an answer gives, however it says so."""

from __future__ import annotations

import re
import unicodedata

from trainer.evaluation.metrics.base import Judged, RowMetric

_SEPARATOR = re.compile(r"[,，、;；/|\n]|\s+or\s+|\s*或者?\s*")
_SENTENCE = re.compile(r"[:：。\n]|\.(?=\s|$)|[?？](?=\s)")
_NAMED = re.compile(
    r"(?:the |its |this )?(?:correct |right |final |best )?"
    r"(?:label|answer|category|class|intent|sentiment|topic|type|classification)\s*(?:is|:|=)\s*:?"
    r"|(?:标签|类别|分类|答案|结果|类型|学科门类|意图|情感)\s*(?:是|为|：|:)\s*",
    re.I,
)
_EDGES = " \t\r\n.,，。!！?？:：;；、\"'`“”‘’「」『』《》()（）[]【】{}<>*_-—"


class LabelAccuracy(RowMetric):
    """Whether an answer gives the right label, and no other of those that the request offers.

    Case, width, outer punctuation and runs of blanks, underscores and hyphens do not count. An answer
    gives a label when it is one, in its first line or behind "Label:", "The answer is", "类别：" and the
    like; or when it names just one of the labels that the request lists around the right one. Where the
    labels are several things per row, the answer must say the same text.
    """

    name = "label_accuracy"

    def score(self, row: Judged) -> float:
        """0 or 1; a cut answer has 0."""
        if not row.finished:
            return 0.0
        gold, answer = _plain(row.gold), row.answer.strip()
        if not answer:
            return 0.0
        lines = answer.split("\n")
        said = [_plain(answer), _plain(lines[0])]
        named = [match.end() for match in _NAMED.finditer(answer)]
        if named:
            said.append(_plain(answer[named[-1] :].lstrip().split("\n")[0]))
        if gold in said:
            return 1.0
        options = offered_labels(row.request, row.gold)
        if any(one in options for one in said):
            return 0.0
        return float(_mentioned(answer, options) == {gold})


def offered_labels(request: str, gold: str) -> set[str]:
    """The list of labels in a request that the gold label is in, in plain form; empty without one."""
    wanted = _plain(gold)
    for sentence in _SENTENCE.split(request):
        options = {_plain(one) for one in _SEPARATOR.split(sentence)} - {""}
        if wanted in options and len(options) > 1:
            return options
    return set()


def _mentioned(answer: str, options: set[str]) -> set[str]:
    """The options that an answer names; one inside a longer one that it names is not named."""
    text = _plain(answer)
    found = set()
    for option in sorted(options, key=len, reverse=True):
        pattern = rf"(?<![a-z0-9]){re.escape(option)}(?![a-z0-9])"
        text, times = re.subn(pattern, "\0", text)
        if times:
            found.add(option)
    return found


def _plain(text: str) -> str:
    text = unicodedata.normalize("NFKC", text).casefold().strip(_EDGES)
    return re.sub(r"[\s_-]+", " ", text)
