"""What counts as a list, and how many things a request asks for."""

from __future__ import annotations

import pytest

from tests.shared_judged import judged, score
from trainer.evaluation.metrics.lists import list_items, requested_number

PROSE = (
    "New York is the most populous city in the country, it has a large harbour, three airports and a "
    "huge subway network that takes people from one end of it to the other, day and night."
)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1. a\n2. b\n3. c", 3),
        ("Here are some:\n\n- first\n- second", 2),
        ("1、苹果\n2、梨", 2),
        ("Hardy Boys\nTintin\nNancy Drew", 3),
        ("Running, walking, yoga, sit ups", 4),
        ("Here are some cuisines - Indian, Italian, French and Chinese", 4),
        ("苹果、梨、香蕉", 3),
        ("1. a", 0),
        (PROSE, 0),
        (f"{PROSE}\n{PROSE}", 0),
        ("yes, no", 0),
        ("", 0),
    ],
)
def test_items(text: str, count: int) -> None:
    assert len(list_items(text)) == count


@pytest.mark.parametrize(
    ("request_text", "number"),
    [
        ("Give me 10 reasons why people dance", 10),
        ("Give me three festive holiday meals I could serve", 3),
        ("I'm new to beer, recommend 5 beer styles to me", 5),
        ("Give me a list of Germany's five most recent chancellors", 5),
        ("What are some fun things to do?", None),
        ("My partner is a 30 year old male. What are some good gift ideas?", None),
        ("What are some gifts for a 30 year old?", None),
        ("Write a letter. You should 1) complain, 2) ask", None),
        ("List some ideas for 2024.", None),
        ("Give me an idea for a sandwich", 1),
        ("列出三个学习方法", 3),
        ("请给出5条建议", 5),
        ("推荐十二部电影", 12),
        ("想两种做法", 2),
        ("写出二十个成语", 20),
        ("请列举一些水果", None),
        ("给我一个点子", 1),
        ("列出第3个方法的优点", None),
    ],
)
def test_requested_number(request_text: str, number: int | None) -> None:
    assert requested_number(request_text) == number


@pytest.mark.parametrize(
    ("request_text", "answer", "value"),
    [
        ("List ideas.", "1. a\n2. b", 1),
        ("List ideas.", "1. x y\n2. X, y!", 0),  # the same twice
        ("List ideas.", PROSE, 0),
        ("List three ideas.", "1. x\n2. y\n3. z", 1),
        ("List three ideas.", "1. x\n2. y", 0),
        ("List three ideas.", "1. w\n2. x\n3. y\n4. z", 0),
        ("列出两个想法。", "1. 跑步\n2. 游泳", 1),
        ("列出两个想法。", "1. 跑步\n2. 跑步。", 0),
        ("Give me an idea.", "1. x\n2. y", None),
        ("List ideas.", "", 0),
    ],
)
def test_list_validity(request_text: str, answer: str, value: float | None) -> None:
    assert score("list_validity", judged(answer, "", request_text)) == value
    cut = score("list_validity", judged(answer, "", request_text, finished=False))
    assert cut == (None if value is None else 0)
