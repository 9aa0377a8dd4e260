"""BLEU and chrF of sacreBLEU (Post, WMT 2018), by the language of the right answers.

A task may translate in several directions. BLEU needs a tokenizer per target language, and a pooled
count of n-grams would mostly say how the longer side does; so rows are grouped by the tokenizer of
their *gold* answer's language, each group is scored as a corpus, exactly as sacreBLEU's command line
scores a file of it, and the value is the mean over rows of their group's score. A task with one
direction has sacreBLEU's own figure.

=========================  =============  ==================================================
gold answer in             tokenizer      as ``sacrebleu -tok``
=========================  =============  ==================================================
Chinese                    zh             characters for Han, 13a otherwise
Japanese, Thai             char           characters (``ja-mecab`` needs a dictionary)
anything else              13a            words, as in WMT
=========================  =============  ==================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from data_modules.cleaning.language import language_of
from trainer.evaluation.metrics.base import Judged

_DEFAULT = "13a"
_TOKENIZERS = {"zh": "zh", "ja": "char", "th": "char"}
_GROUPS = (_DEFAULT, "zh", "char")


def tokenizer_of(gold: str) -> str:
    """sacreBLEU's tokenizer for answers in the language of ``gold``."""
    return _TOKENIZERS.get(language_of(gold), _DEFAULT)


class _Grouped:
    """A corpus metric over groups of rows: [groups * (1 + width)] statistics, first the group's rows."""

    name: str
    width: int

    def statistics(self, rows: Sequence[Judged]) -> np.ndarray:
        """Rows and summed counts of each group; a cut answer counts as it stands."""
        groups = np.array([_GROUPS.index(tokenizer_of(row.gold)) for row in rows], dtype=int)
        result = np.zeros((len(rows), len(_GROUPS), 1 + self.width))
        for group, name in enumerate(_GROUPS):
            places = np.flatnonzero(groups == group)
            if len(places):
                chosen = [rows[int(place)] for place in places]
                result[places, group, 0] = 1
                result[places, group, 1:] = self._counts(
                    name, [row.answer for row in chosen], [row.gold for row in chosen]
                )
        return result.reshape(len(rows), len(_GROUPS) * (1 + self.width))

    def value(self, sums: np.ndarray, n: np.ndarray) -> np.ndarray:
        """Mean over rows of the score of their group."""
        shape = np.shape(n)
        counts = sums.reshape(-1, len(_GROUPS), 1 + self.width)
        scores = [
            sum(one[0] * self._score(one[1:].round().astype(int).tolist(), rows) for one in groups)
            / rows
            for groups, rows in zip(counts, np.ravel(n), strict=True)
        ]
        return np.array(scores, dtype=np.float64).reshape(shape)

    def _counts(self, group: str, answers: list[str], golds: list[str]) -> Any:
        raise NotImplementedError

    def _score(self, counts: list[int], rows: float) -> float:
        """In [0, 1], of the counts of a group; ``rows`` in all groups."""
        raise NotImplementedError


class Bleu(_Grouped):
    """BLEU (Papineni et al., ACL 2002) over 100: ``nrefs:1|case:mixed|eff:no|smooth:exp``.

    A single row has sacreBLEU's sentence BLEU (``eff:yes``), without which no answer of fewer than
    four tokens could be right.
    """

    name = "bleu"
    width = 10

    def __init__(self) -> None:
        self._by_group = {name: BLEU(tokenize=name, force=True) for name in _GROUPS}

    def _counts(self, group: str, answers: list[str], golds: list[str]) -> Any:
        return self._by_group[group]._extract_corpus_statistics(answers, [golds])

    def _score(self, counts: list[int], rows: float) -> float:
        sys_len, ref_len, *ngrams = counts
        found = BLEU.compute_bleu(
            ngrams[:4], ngrams[4:], sys_len, ref_len, "exp", effective_order=rows == 1
        )
        return min(1.0, found.score / 100)


class ChrF(_Grouped):
    """chrF (Popović, WMT 2015) over 100: ``nrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no``."""

    name = "chrf"
    width = 18

    def __init__(self) -> None:
        self._chrf = CHRF()

    def _counts(self, _: str, answers: list[str], golds: list[str]) -> Any:
        return self._chrf._extract_corpus_statistics(answers, [golds])

    def _score(self, counts: list[int], _: float) -> float:
        return min(1.0, self._chrf._compute_f_score(counts) / 100)
