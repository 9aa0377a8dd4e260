"""Exact match and token F1, for question answering."""

from __future__ import annotations

from collections import Counter

from trainer.evaluation.metrics.base import Judged, RowMetric
from trainer.evaluation.metrics.tokens import normalised_tokens


class ExactMatch(RowMetric):
    """Whether answer and gold are the same text, outer white space aside."""

    name = "exact_match"

    def score(self, row: Judged) -> float:
        """0 or 1; a cut answer has 0."""
        return float(row.finished and row.answer.strip() == row.gold.strip())


class TokenF1(RowMetric):
    """F1 of the bags of tokens of answer and gold, mean over rows (Rajpurkar et al., EMNLP 2016).

    Tokens are those of SQuAD's own script, and single characters in Chinese and Japanese; see
    :func:`~trainer.evaluation.metrics.tokens.normalised_tokens`. A cut answer counts as it stands.
    """

    name = "token_f1"

    def score(self, row: Judged) -> float:
        """In [0, 1]; where a side has no tokens, whether the two are the same text."""
        answer, gold = normalised_tokens(row.answer), normalised_tokens(row.gold)
        if not answer or not gold:
            return float(row.answer.strip() == row.gold.strip())
        return 2 * (Counter(answer) & Counter(gold)).total() / (len(answer) + len(gold))
