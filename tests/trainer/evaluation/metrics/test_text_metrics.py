"""Exact match, token F1, ROUGE-L, item F1, edit gain and form of chat on cases counted by hand."""

from __future__ import annotations

import re
import string
from collections import Counter

import pytest

from tests.shared_judged import judged, score
from trainer.evaluation.metrics import figure, metric
from trainer.evaluation.metrics.entities import items_of


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        (" UP\n", "UP", 1),
        ("up", "UP", 0),
        ("", "UP", 0),
        ("", "", 1),
        ("1. a\n2. b", "- a\n- b", 0),
    ],
)
def test_exact_match(answer: str, gold: str, right: float) -> None:
    assert score("exact_match", judged(answer, gold)) == right
    assert score("exact_match", judged(answer, gold, finished=False)) == 0


def squad_f1(prediction: str, truth: str) -> float:
    """As in SQuAD's evaluate-v1.1.py."""

    def tokens(text: str) -> list[str]:
        text = "".join(letter for letter in text.lower() if letter not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", text).split()

    ours, theirs = tokens(prediction), tokens(truth)
    same = (Counter(ours) & Counter(theirs)).total()
    if same == 0:
        return 0
    precision, recall = same / len(ours), same / len(theirs)
    return 2 * precision * recall / (precision + recall)


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("The cat sat on a mat.", "a cat, sitting on the mat"),
        ("Denver Broncos", "The Denver Broncos!"),
        ("in the 1990s it's $5", "1990s its 5 dollars"),
        ("nothing", "alike"),
        ("a a b", "a b b the"),
    ],
)
def test_token_f1_is_that_of_squad(answer: str, gold: str) -> None:
    assert score("token_f1", judged(answer, gold)) == pytest.approx(
        squad_f1(answer, gold), abs=1e-15
    )


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("在北京。", "在北京", 1),
        ("他在北京", "北京市", 2 * 2 / (4 + 3)),
        ("Tom去了", "Tom走了", 2 * 2 / (3 + 3)),  # the word, 去/走, 了
        ("", "北京", 0),
        ("the", "the", 1),  # no token is left on either side
        ("+", "-", 0),
        ("“北京”！", "北京", 1),
    ],
)
def test_token_f1_counts_characters_where_words_are_not_spaced(
    answer: str, gold: str, value: float
) -> None:
    assert score("token_f1", judged(answer, gold)) == pytest.approx(value, abs=1e-15)
    assert score("token_f1", judged(answer, gold, finished=False)) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [("", "", 1), ("x", "", 0), ("", "x", 0), ("？", "？", 1), ("Привет мир", "Привет, мир!", 1)],
)
def test_rouge_where_the_library_finds_no_tokens(answer: str, gold: str, value: float) -> None:
    assert score("rouge_l", judged(answer, gold)) == value


@pytest.mark.parametrize(
    ("text", "items"),
    [
        ("1. Red\n2. dark-blue", ["red", "dark-blue"]),
        ("A, B and C; 1,000 men", ["a", "b and c", "1,000 men"]),
        ("one, two, and three.", ["one", "two", "three"]),
        ("湿热处理、吸水性，弹性模量", ["湿热处理", "吸水性", "弹性模量"]),
        (
            "- SF : location\n• “Pizza Hut”: corporation",
            ["sf: location", "pizza hut”: corporation"],
        ),
        ('{"people": ["Ann", "Bo"], "year": 1999}', ["people: ann", "people: bo", "year: 1999"]),
        ("", []),
        (" , ;", []),
    ],
)
def test_items(text: str, items: list[str]) -> None:
    assert items_of(text) == items


def test_entity_f1_is_micro_averaged_over_multisets() -> None:
    rows = [
        judged("b, A", "a, b"),  # order and case do not count
        judged("BB: person", "BB: person\nBB: person"),  # one of two
        judged("Rome: person", "Rome: location"),
        judged("", "x, y"),
    ]
    found = figure(metric("entity_f1"), rows, 200, "x")
    assert found.value == pytest.approx(2 * 3 / (4 + 7))
    assert found.low < found.value < found.high
    assert [score("entity_f1", row) for row in rows] == pytest.approx([1, 2 / 3, 0, 0])
    assert score("entity_f1", judged("", "")) == 1


REWRITE = "修改病句：\n父母对孩子的爱情是在世界上最重要的。"


@pytest.mark.parametrize(
    ("request_text", "answer", "gold", "value"),
    [
        ("Split it.\nabcd", "ab. cd", "ab. cd", 1),
        ("Split it.\nabcd", "abcd", "ab. cd", 0),  # copied
        ("Split it.\nabcd", "ab.cd", "ab. cd", 0.5),  # one of two insertions
        ("Split it.\nabcd", "", "ab. cd", 0),
        ("Split it.\nabcd", "Split it.\nabcd", "ab. cd", 0),
        ("Split it: abcd", "abcd", "ab. cd", 0),  # what stands behind a colon is a source
        ("Split it.\nabcd\nTranslation:", "abcd", "ab. cd", 0),  # a cue behind the text
        ("Correct it.\nab\ncd", "ab\nce", "ab\nce", 1),
        ("Correct it.\nab\ncd", "ab\ncd", "ab\nce", 0),
        ("Correct it.\nabcd", "abcd", "abcd", 1),  # nothing was wrong
        ("Correct it.\nabcd", "abce", "abcd", 0),
        (REWRITE, REWRITE.split("\n")[1], "在世界上，父母对孩子的爱是最重要的。", 0),
        (
            REWRITE,
            "在世界上，父母对孩子的爱是最重要的。",
            "在世界上，父母对孩子的爱是最重要的。",
            1,
        ),
    ],
)
def test_edit_gain(request_text: str, answer: str, gold: str, value: float) -> None:
    row = judged(answer, gold, request_text)
    assert score("edit_gain", row) == pytest.approx(value, abs=1e-15)


LONG = "You could take the train to the coast and walk along the cliffs from there."


@pytest.mark.parametrize(
    ("request_text", "answer", "value"),
    [
        ("What shall I do at the weekend?", LONG, 1),
        ("What shall I do at the weekend?", " ", 0),
        ("What shall I do at the weekend?", "I'm sorry, but I can't help with that.", 0),
        ("What shall I do at the weekend?", "Go to the sea. " * 12, 0),
        ("What shall I do at the weekend?", "What shall I do at the weekend", 0),
        ("What shall I do at the weekend?", "你可以坐火车去海边，然后沿着悬崖散步。", 0),
        ("What shall I do at the weekend?", "Itâ€™s time for the sea, the cliffs and the sun.", 0),
        ("周末我可以做什么？", "你可以坐火车去海边，然后沿着悬崖散步。", 1),
        ("周末我可以做什么？请用英文回答，翻译成英文。", LONG, 1),
        ("Hello!", "Hello!", 1),
    ],
)
def test_chat_form(request_text: str, answer: str, value: float) -> None:
    assert score("chat_form", judged(answer, "", request_text)) == value
    assert score("chat_form", judged(answer, "", request_text, finished=False)) == 0
