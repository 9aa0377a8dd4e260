"""Form of a chat answer: nothing that a gold answer would be needed for."""

from __future__ import annotations

from rapidfuzz.distance import Indel

from data_modules.cleaning.behaviours import is_refusal
from data_modules.cleaning.language import language_of
from data_modules.cleaning.quality import faulty_text, repeated_share
from data_modules.cleaning.rules import target_language
from trainer.evaluation.metrics.base import Judged, RowMetric

#: Share of repeated n-grams from which an answer goes round in circles; as ``cleaning=standard``.
_MOST_REPETITION = 0.6
#: Similarity from which an answer is its request again, and the bytes of UTF-8 from which that counts:
#: "Hello" may be answered so.
_ECHO = 0.9
_FEWEST_BYTES = 16


class ChatForm(RowMetric):
    """Whether a reply is one: there, finished, readable, in the right language; no refusal, loop or echo.

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
        request = row.request.strip()
        alike = Indel.normalized_similarity(request, answer)
        if alike >= _ECHO and len(request.encode()) >= _FEWEST_BYTES:
            return 0.0
        wanted = target_language(row.request) or row.language
        return float(not wanted or language_of(answer) in ("", wanted))
