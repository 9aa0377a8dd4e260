"""No text that a model may write breaks a metric or leaves [0, 1]."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.shared_judged import judged
from trainer.evaluation.metrics import metric, metric_names, per_row

#: Those that run programs are the sandbox's matter.
NAMES = [name for name in metric_names() if not name.startswith(("code_", "bench:code"))]
#: What must be 1 for the gold answer itself, whatever it is.
OF_TEXT = ["exact_match", "token_f1", "rouge_l", "entity_f1", "edit_gain"]
PIECES = st.sampled_from(
    [
        *(
            "the answer is",
            "答案：",
            "\\boxed{",
            "####",
            "故选",
            "1. ",
            "- ",
            "\n",
            "```",
            "{",
            "[",
            "]",
            "}",
        ),
        *(
            ":",
            "、",
            ",",
            "D",
            "12",
            "1/2",
            "0",
            "/0",
            "three ideas",
            "列出十个",
            "Give me",
            "label:",
            "?",
            '"',
        ),
    ]
)
TEXTS = st.lists(PIECES | st.text(max_size=6), max_size=12).map("".join)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(request_text=TEXTS, answer=TEXTS, gold=TEXTS, finished=st.booleans())
def test_scores_are_shares(
    name: str, request_text: str, answer: str, gold: str, finished: bool
) -> None:
    (found,) = per_row(metric(name), [judged(answer, gold, request_text, finished)])
    assert found is None or 0 <= found <= 1
    (of_gold,) = per_row(metric(name), [judged(gold, gold, request_text)])
    assert (found is None) == (of_gold is None), "whether a row is judged is not up to the answer"
    if name in OF_TEXT:
        assert of_gold == pytest.approx(1)


@pytest.mark.parametrize(
    "answer", ["[" * 900 + "1" + "]" * 900, "9" * 6000, "1/" * 3000, "(" * 5000]
)
@pytest.mark.parametrize("name", NAMES)
def test_extremes(name: str, answer: str) -> None:
    (found,) = per_row(metric(name), [judged(answer, "The answer is 5.", "List two ideas.\nx")])
    assert found is None or 0 <= found <= 1
