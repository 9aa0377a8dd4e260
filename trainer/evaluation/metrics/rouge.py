"""ROUGE-L of rouge-score, for summaries."""

from __future__ import annotations

from rouge_score.rouge_scorer import RougeScorer

from trainer.evaluation.metrics.base import Judged, RowMetric
from trainer.evaluation.metrics.tokens import MixedTokenizer


class RougeL(RowMetric):
    """F-measure of the longest common subsequence of tokens, mean over rows (Lin, ACL 2004 workshop).

    The library's figure without stemming on Latin text; characters in Chinese and Japanese, where its
    own tokenizer finds nothing. A cut answer counts as it stands.
    """

    name = "rouge_l"

    def __init__(self) -> None:
        self._tokenizer = MixedTokenizer()
        self._scorer = RougeScorer(["rougeL"], tokenizer=self._tokenizer)

    def score(self, row: Judged) -> float:
        """In [0, 1]; where the gold has no tokens, whether the two are the same text."""
        if not self._tokenizer.tokenize(row.gold):
            return float(row.answer.strip() == row.gold.strip())
        return float(self._scorer.score(row.gold, row.answer)["rougeL"].fmeasure)
