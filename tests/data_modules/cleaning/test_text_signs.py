"""Language, behaviours and quality of single texts; forced rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.cleaning import Forced, behaviours_of, language_of, quality_of
from data_modules.cleaning.code_signs import code_language
from data_modules.cleaning.quality import repeated_share
from data_modules.config import CleaningConfig
from data_modules.faults import DataFault
from data_modules.records import Message, Record


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("今天天气很好。", "zh"),
        ("使用 Python 的 requests 库发送 HTTP 请求。", "zh"),
        ("今日は天気がいいです。", "ja"),
        ("오늘은 날씨가 좋습니다.", "ko"),
        ("Сегодня хорошая погода.", "ru"),
        ("الطقس جميل اليوم", "ar"),
        ("The weather is fine today.", "en"),
        ("card_payment_not_recognised", "en"),
        ("Das Wetter ist heute schön, aber nicht warm.", "de"),
        ("Il fait beau aujourd'hui et je suis dans la maison.", "fr"),
        ("El tiempo es muy bueno y la casa está en la ciudad.", "es"),
        ("The word 你好 means hello in Chinese.", "en"),
        ("“你好”的英文是 hello。", "zh"),
        ("42 + 1 = 43", ""),
        ("", ""),
        ("```python\nprint('the value of this is')\n```", ""),
        ("解: $\\frac{x}{y}=\\sqrt{2}$ 所以选 C", "zh"),
    ],
)
def test_languages(text: str, language: str) -> None:
    assert language_of(text) == language


@pytest.mark.parametrize(
    ("text", "behaviours"),
    [
        ("def f(x):\n    return x + 1", {"code"}),
        ("print('hello')", {"code"}),
        ("Here:\n```js\nlet a = 1;\n```", {"code"}),
        ("SELECT name FROM users", {"code"}),
        ("1. one\n2. two", {"list"}),
        ("想法：\n- 散步\n- 游泳", {"list"}),
        ("1、散步\n2、游泳", {"list"}),
        ("What do you mean?", {"question"}),
        ("你指的是什么？", {"question"}),
        ('{"a": 1}', {"json"}),
        ('```json\n[{"a": 1}]\n```', {"json"}),
        ("抱歉，我无法提供帮助。", {"refusal"}),
        ("It costs 1.5 dollars.\n2.5 for two.", set()),
        ("Siamese = Cat\nBirman = Cat", set()),
        ("The function f(x) returns x. Import it from the module.", set()),
        ("He asked “Why?” and left.", set()),
        ("{not json}", set()),
        ("因为如此，所以选择 A。", set()),
        ("- a single dash", set()),
    ],
)
def test_behaviours(text: str, behaviours: set[str]) -> None:
    assert {behaviour.value for behaviour in behaviours_of(text)} == behaviours


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("def f(x):\n    return x", "python"),
        ("x = [i for i in range(3)]\nprint(x)", "python"),
        ("function f(x) {\n  return x;\n}", "javascript"),
        ("const f = (x) => {\n  return x;\n};", "javascript"),
        ("public static int f(int x) {\n  return x;\n}\nSystem.out.println(1);", "java"),
        ("using System;\nclass A\n{\n}", "csharp"),
        ("#include <stdio.h>\nint main() {\n  return 0;\n}", "c"),
        ("#include <iostream>\nint main() {\n  std::cout << 1;\n}", "cpp"),
        ("#!/bin/bash\necho hi", "bash"),
        ("<?php\necho 1;", "php"),
        ("SELECT *\nFROM t\nWHERE x > 1;", "sql"),
        ("def f(x)\n  x\nend", "ruby"),
        ("print 'old'\nx = foo(1)\ny = foo(2)", "usual"),
        ("Select a name from the list.", ""),
        ("The output is 5.", ""),
        ("Here is the code:\n\nint x = 1;\nint y = 2;", ""),
        ("1. Start the engine;\n2. drive;", ""),
        ("苹果；\n香蕉；", ""),
        ("Paris", ""),
        ("3 + 4", ""),
        ("", ""),
    ],
)
def test_code_and_its_language(text: str, language: str) -> None:
    assert code_language(text, "usual") == language


def quality(answer: str, own: float | None = None) -> float:
    messages = (Message("user", "?"), Message("assistant", answer))
    return quality_of(Record("qa", messages, "rows:1", quality=own))


def test_quality_follows_its_formula() -> None:
    sentence = "The weather is fine today, and it will stay so."
    assert quality(sentence) == 1
    assert quality("天气很好") == 1
    assert quality("abc") == 0.5 + 0.5 * 3 / 12
    assert quality(sentence + " But then,") == 0.6
    assert quality(sentence + " It goes on and on until it") == pytest.approx(0.9)
    assert quality(sentence + " caf\ufffd.") == pytest.approx(0.2)
    assert quality("*" * 12) == pytest.approx(0.4)
    looped = "one two three four " * 5
    assert quality(looped) == pytest.approx((1 - (repeated_share(looped) - 0.2) / 0.8) * 0.9)
    assert quality(" ") == 0
    assert quality("*", own=0.7) == 0.7
    assert quality("*", own=7.0) == 1


def test_repeated_share_is_that_of_repeated_n_grams() -> None:
    # 20 words of a cycle of four: 18 trigrams, four of them distinct
    assert repeated_share("one two three four " * 5) == pytest.approx(1 - 4 / 18)
    # 40 characters of a cycle of eight: 31 10-grams, eight distinct
    assert repeated_share("一二三四五六七八" * 5) == pytest.approx(1 - 8 / 31)
    assert repeated_share("one two three four five six seven eight nine ten eleven twelve") == 0
    assert repeated_share("a a a") == 0


def test_forced_rows_from_lists_and_files(tmp_path: Path) -> None:
    ids = tmp_path / "keep.txt"
    ids.write_text("\ufeffa\n\n b \r\n", encoding="utf-8")
    forced = Forced(CleaningConfig(keep=[f"@{ids}", "c"], drop=["d", "e"]))
    assert [forced.verdict(row_id) for row_id in "abcdx"] == [True, True, True, False, None]
    assert forced.unmatched(["a", "d", "x"]) == ["b", "c", "e"]


def test_faults_of_forced_rows_are_told_together(tmp_path: Path) -> None:
    missing = f"@{tmp_path}/none.txt"
    with pytest.raises(DataFault) as fault:
        Forced(CleaningConfig(keep=[missing, "a"], drop=["a", "b"]))
    assert [one.where for one in fault.value.faults] == ["data.cleaning.keep"] * 2
    assert missing in fault.value.faults[0].seen
    assert "'a'" in fault.value.faults[1].seen
