"""How far an answer moved the text it was given towards the right rewriting."""

from __future__ import annotations

import re

from rapidfuzz.distance import Indel

from trainer.evaluation.metrics.base import Judged, RowMetric

_COLON = re.compile(r"[:：]\s*")
#: Lines of a request that are joined to find what is to be rewritten; longer requests are cut there.
_MOST_LINES = 40


class EditGain(RowMetric):
    """``1 - d(answer, gold) / d(source, gold)``, not below 0: the share of the edits that was made.

    d is rapidfuzz's Indel distance (insertions and deletions, characters), so languages need no
    tokenizer. A similarity to the gold text alone gives nine tenths to who changes nothing, since a
    rewriting keeps most of its text; here copying has 0, undoing more than is gained has 0, and the
    gold text 1. (SARI, the usual measure, averages over kept words as well, so copying earns up to a
    third of it, and it is defined for spaced words.)

    The source is the stretch of whole lines of the request, or what stands behind a colon in a line,
    that is nearest to the gold text: copying any of them earns nothing. Where that is the gold text
    itself, nothing was to be changed, and the score says whether nothing was. A cut answer counts as
    it stands.
    """

    name = "edit_gain"

    def score(self, row: Judged) -> float:
        """In [0, 1]."""
        answer, gold = row.answer.strip(), row.gold.strip()
        still = Indel.distance(answer, gold)
        at_first = min(Indel.distance(one, gold) for one in _sources(row.request))
        if at_first == 0:
            return float(still == 0)
        return max(0.0, 1 - still / at_first)


def _sources(request: str) -> list[str]:
    lines = request.strip().split("\n")[:_MOST_LINES]
    stretches = [
        "\n".join(lines[start:end]).strip()
        for start in range(len(lines))
        for end in range(start + 1, len(lines) + 1)
    ]
    behind = [line[match.end() :].strip() for line in lines for match in _COLON.finditer(line)]
    return [*stretches, *behind]
