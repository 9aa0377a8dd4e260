"""README.zh-CN.md says what README.md says: the same sections, commands, tables and links."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.docs.pages import Page, read_page
from tests.shared_data import REPOSITORY

ENGLISH, CHINESE = REPOSITORY / "README.md", REPOSITORY / "README.zh-CN.md"
_FIGURE = re.compile(r"\d+(?:[.,]\d+)*(?:e-?\d+)?")


@pytest.fixture(scope="module")
def english() -> Page:
    return read_page(ENGLISH)


@pytest.fixture(scope="module")
def chinese() -> Page:
    return read_page(CHINESE)


def links(page: Page, other: Path) -> list[str]:
    """The page's links without the one to the other language."""
    assert page.links[0] == other.name, "each page links to the other first"
    return page.links[1:]


def code(page: Page) -> list[tuple[int, str, tuple[str, ...]]]:
    """Section, language and lines of every block, without what comments say."""
    return [
        (one.section, one.language, tuple(re.sub(r"\s+# .*", "", line) for line in one.lines))
        for one in page.blocks
    ]


def commented(page: Page) -> list[list[bool]]:
    return [[" # " in line for line in one.lines] for one in page.blocks]


def figures(page: Page, section: int) -> Counter[str]:
    """The figures in a section's tables."""
    rows = [line for line in page.prose.get(section, []) if line.startswith("|")]
    return Counter(_FIGURE.findall("\n".join(rows)))


def test_the_same_headings_in_the_same_order(english: Page, chinese: Page) -> None:
    assert len(english.headings) > 5
    assert chinese.headings == english.headings


def test_the_same_commands(english: Page, chinese: Page) -> None:
    assert len(english.blocks) > 4
    assert code(chinese) == code(english)
    assert commented(chinese) == commented(english)


def test_the_same_code_in_the_text_of_each_section(english: Page, chinese: Page) -> None:
    for section in range(len(english.headings) + 1):
        assert Counter(chinese.inline_code(section)) == Counter(english.inline_code(section))


def test_the_same_links(english: Page, chinese: Page) -> None:
    assert links(chinese, ENGLISH) == links(english, CHINESE)
    for target in (*english.links, *chinese.links):
        assert target.startswith("https://") or (REPOSITORY / target.split("#")[0]).exists()


def test_the_same_tables(english: Page, chinese: Page) -> None:
    assert len(english.tables) > 2
    assert chinese.tables == english.tables
    for section in range(len(english.headings) + 1):
        assert figures(chinese, section) == figures(english, section)


def test_the_chinese_page_is_in_chinese(chinese: Page) -> None:
    text = "\n".join(line for lines in chinese.prose.values() for line in lines)
    assert len(re.findall(r"[\u4e00-\u9fff]", text)) > 1000
    for lines in chinese.prose.values():
        for line in lines:
            words = re.sub(r"`[^`]*`|\]\([^)]*\)|[|\s-]", "", line)
            assert not re.fullmatch(r"[A-Za-z ,.:;]{25,}", words), f"not translated: {line}"
