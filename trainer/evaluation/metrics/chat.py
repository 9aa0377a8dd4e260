"""Form of a chat answer: nothing that a gold answer would be needed for."""

from __future__ import annotations

from data_modules.cleaning.behaviours import is_refusal
from data_modules.cleaning.language import language_of
from data_modules.cleaning.quality import faulty_text, repeated_share
from data_modules.cleaning.rules import target_language
from trainer.evaluation.metrics.base import Judged, RowMetric

#: Share of repeated n-grams from which an answer goes round in circles; as ``cleaning=standard``.
_MOST_REPETITION = 0.6


class ChatForm(RowMetric):
    """Whether a reply is one: there, finished, no refusal, no loop, readable, in the right language.

    The language is that of the request, or the one that it asks for ("in English", "用中文"); where
    either side's cannot be told, it does not count. Whether a reply is true or useful is for
    metrics with a gold answer, or for people.
    """

    name = "chat_form"

    def score(self, row: Judged) -> float:
        """0 or 1; a cut answer has 0."""
        answer = row.answer.strip()
        sound = row.finished and answer and not is_refusal(answer) and not faulty_text(answer)
        if not sound or repeated_share(answer) > _MOST_REPETITION:
            return 0.0
        wanted = target_language(row.request) or row.language
        return float(not wanted or language_of(answer) in ("", wanted))
