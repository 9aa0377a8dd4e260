"""The rules of one output format: what they change, what they leave alone, and that once is enough."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from data_modules.config import TaskConfig, Unification
from data_modules.unification import split_fences, unify, violations

ALL = list(Unification)


def task(*rules: Unification) -> TaskConfig:
    return TaskConfig(unify=list(rules))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a  \nb\t\n", "a\nb"),
        ("\n\na\n\n\n\nb", "a\n\nb"),
        (" 你好　\n", "你好"),
        ("a\r\nb\r", "a\nb"),
        ("    indented code\n", "    indented code"),
        ("a\n```\nx  \n\n\n\ny\n```  \nb  ", "a\n```\nx  \n\n\n\ny\n```  \nb"),
        ("  \n```\nx  \n```", "```\nx  \n```"),
        ("fine\n\ntext", "fine\n\ntext"),
    ],
)
def test_whitespace(text: str, expected: str) -> None:
    assert unify(text, task(Unification.whitespace)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(x):\n    return x\n", "```python\ndef f(x):\n    return x\n```"),
        ("print('你好')", "```python\nprint('你好')\n```"),
        ("function f() {\n  return 1;\n}", "```javascript\nfunction f() {\n  return 1;\n}\n```"),
        ("```\nx = 1\n```", "```python\nx = 1\n```"),
        ("```js\nlet a\n```", "```js\nlet a\n```"),
        ("~~~\nx = 1\n~~~", "~~~python\nx = 1\n~~~"),
        ("这样写：\n```\nx = 1\n```", "这样写：\n```\nx = 1\n```"),
        ("Use `print(x)` here.", "Use `print(x)` here."),
        ("The answer is 4.", "The answer is 4."),
        ("Paris", "Paris"),
        ("x + 1", "x + 1"),
        ("", ""),
    ],
)
def test_code_fence(text: str, expected: str) -> None:
    assert unify(text, task(Unification.code_fence)) == expected


def test_code_of_no_known_language_gets_that_of_the_task() -> None:
    settings = TaskConfig(unify=[Unification.code_fence], code_language="lua")
    assert unify("```\nlocal x = 1\n```", settings) == "```lua\nlocal x = 1\n```"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- a\n- b", "1. a\n2. b"),
        ("* a\n* b\n* c", "1. a\n2. b\n3. c"),
        ("• 甲\n•乙", "1. 甲\n2. 乙"),
        ("1) a\n2) b", "1. a\n2. b"),
        ("1、甲\n2、乙", "1. 甲\n2. 乙"),
        ("(1) a\n(2) b", "1. a\n2. b"),
        ("（1）甲\n（2）乙", "1. 甲\n2. 乙"),
        ("①甲\n② 乙", "1. 甲\n2. 乙"),
        ("1. a\n1. b\n1. c", "1. a\n2. b\n3. c"),
        ("3. a\n4. b", "3. a\n4. b"),
        ("想法：\n- 散步\n\n- 游泳\n就这些。", "想法：\n1. 散步\n\n2. 游泳\n就这些。"),
        ("A:\n- a\n- b\nB:\n- c\n- d", "A:\n1. a\n2. b\nB:\n1. c\n2. d"),
        # a paragraph between two numbers
        ("1) a\nwhy\n2) b\nwhy", "1. a\nwhy\n2. b\nwhy"),
        # nested items stay
        ("- a\n  - x\n  - y\n- b", "1. a\n  - x\n  - y\n2. b"),
        ("1. a\n- x\n- y\n2. b\n- z", "1. a\n- x\n- y\n2. b\n- z"),
        # no lists
        ("- a lone dash", "- a lone dash"),
        ("-5 degrees\n-6 degrees", "-5 degrees\n-6 degrees"),
        ("1.5 metres\n2.5 metres", "1.5 metres\n2.5 metres"),
        ("**bold**\n**type**", "**bold**\n**type**"),
        ("* * *\n- - -", "* * *\n- - -"),
        ("---\n---", "---\n---"),
        ("```\n- a\n- b\n```", "```\n- a\n- b\n```"),
        ("2024年的\n2025年的", "2024年的\n2025年的"),
    ],
)
def test_numbered_list(text: str, expected: str) -> None:
    assert unify(text, task(Unification.numbered_list)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("__x__ and __y z__", "**x** and **y z**"),
        ("<b>x</b> <strong>重点</strong> <B>y</B>", "**x** **重点** **y**"),
        ("是__重点__。", "是__重点__。"),
        ("注意：__重点__。", "注意：**重点**。"),
        ("call __init__ and obj.__name__", "call __init__ and obj.__name__"),
        ("snake__case__name", "snake__case__name"),
        ("`__x__` and `<b>`", "`__x__` and `<b>`"),
        ("```\n__x__ <b>y</b>\n```", "```\n__x__ <b>y</b>\n```"),
        ("____ fill in ____", "____ fill in ____"),
        ("<b></b> <b> </b>", "<b></b> <b> </b>"),
        ("**x**", "**x**"),
        ("a < b and b > c", "a < b and b > c"),
    ],
)
def test_bold(text: str, expected: str) -> None:
    assert unify(text, task(Unification.bold)) == expected


def test_all_rules_together() -> None:
    text = "\n<b>想法</b>：  \n① 散步 \n② __游泳__\n\n\n\n```\n- a  \n```\n"
    expected = "**想法**：\n1. 散步\n2. **游泳**\n\n```\n- a  \n```"
    assert unify(text, task(*ALL)) == expected
    assert violations(text, task(*ALL)) == ["bold", "numbered_list", "whitespace"]
    assert violations(expected, task(*ALL)) == []
    assert violations(text, task(Unification.bold)) == ["bold"]
    assert unify(text, task()) == text
    assert violations("x = f(1)", task(*ALL)) == ["code_fence"]


PIECES = st.sampled_from(
    [
        "- ",
        "* ",
        "1. ",
        "1) ",
        "2、",
        "①",
        "• ",
        "(1) ",
        "```",
        "```python",
        "~~~",
        "__",
        "**",
        "<b>",
        "</b>",
        "<strong>",
        "</strong>",
        "\n",
        "\n\n",
        "\n\n\n",
        " ",
        "  ",
        "\t",
        "\r\n",
        "\r",
        "x",
        "word",
        "字",
        "x = 1",
        "print(1)",
        "def f():",
        "    return",
        "_",
        "`",
        "init",
        "1",
        "。",
        ":",
        "\u3000",
        "\x0b",
        "\x85",
        "\u2028",
    ]
)
TEXTS = st.lists(PIECES, max_size=14).map("".join)


@given(TEXTS, st.lists(st.sampled_from(ALL), unique=True))
@example("- - a\n- b", ALL)
@example("```\n```\n```", ALL)
def test_once_is_enough(text: str, rules: list[Unification]) -> None:
    once = unify(text, task(*rules))
    assert unify(once, task(*rules)) == once
    changed = [rule.value for rule in ALL if rule in rules and unify(text, task(rule)) != text]
    assert sorted(violations(text, task(*rules))) == sorted(changed)


@given(TEXTS)
def test_the_inside_of_fences_stays(text: str) -> None:
    """All that stands between the lines of a fence is still there, in order."""
    pieces = split_fences(text)
    assert "\n".join(piece for _, piece in pieces) == text
    inside = [piece.split("\n")[1:-1] for is_fence, piece in pieces if is_fence]
    unified = split_fences(unify(text, task(Unification.bold, Unification.numbered_list)))
    assert [piece.split("\n")[1:-1] for is_fence, piece in unified if is_fence] == inside


def test_fences_are_split_from_text() -> None:
    text = "a\n```py\n~~~\n```\nb\n````\n```\n````\nc\n~~~\nopen"
    assert split_fences(text) == [
        (False, "a"),
        (True, "```py\n~~~\n```"),
        (False, "b"),
        (True, "````\n```\n````"),
        (False, "c"),
        (True, "~~~\nopen"),
    ]
