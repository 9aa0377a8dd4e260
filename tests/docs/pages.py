"""The documents as tests read them: headings, code blocks, inline code, links, tables, commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.shared_data import REPOSITORY

PAGES = (
    *sorted(REPOSITORY.glob("README*.md")),
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted(REPOSITORY.glob("*/README.md")),
)
_LAUNCHER = re.compile(
    r"(python|torchrun|deepspeed)( --\S+( (?!launch/)[^-\s]\S*)?)* (?P<program>launch/\w+\.py)\b"
)
_SHELL_FENCES = ("", "bash", "sh", "shell")


@dataclass(frozen=True)
class Block:
    """A block of code; ``language`` is a fence's, "" of an indented block.

    ``section`` counts the headings above it.
    """

    language: str
    lines: tuple[str, ...]
    section: int


@dataclass(frozen=True)
class Page:
    """A Markdown page.

    Attributes:
        headings: level of each, in order.
        prose: the lines outside blocks of code, by the number of headings above them.
        tables: columns and rows of each table, in order, its head and rule not counted as rows.
    """

    path: Path
    headings: tuple[int, ...]
    prose: dict[int, list[str]]
    blocks: tuple[Block, ...]
    tables: tuple[tuple[int, int], ...]

    def inline_code(self, section: int) -> list[str]:
        """Code between back-ticks in the prose of a section."""
        return re.findall(r"`([^`]+)`", "\n".join(self.prose.get(section, [])).replace("\n", " "))

    @property
    def links(self) -> list[str]:
        """Targets of links and pictures, in order."""
        text = "\n".join(line for lines in self.prose.values() for line in lines)
        return re.findall(r"\]\(([^)]+)\)", text)


def read_page(path: Path) -> Page:
    """Read the Markdown that this repository writes."""
    lines = path.read_text(encoding="utf-8").splitlines()
    headings: list[int] = []
    prose: dict[int, list[str]] = {}
    blocks: list[Block] = []
    tables: list[tuple[int, int]] = []
    place = 0
    while place < len(lines):
        line = lines[place]
        section = len(headings)
        if line.startswith("```"):
            end = next(i for i in range(place + 1, len(lines)) if lines[i].startswith("```"))
            blocks.append(Block(line[3:].strip(), tuple(lines[place + 1 : end]), section))
            place = end + 1
            continue
        if line.startswith("    ") and line.strip() and (place == 0 or not lines[place - 1]):
            end = place
            while end < len(lines) and (lines[end].startswith("    ") or not lines[end].strip()):
                end += 1
            inside = [one[4:] for one in lines[place:end]]
            while not inside[-1].strip():
                inside.pop()
            blocks.append(Block("", tuple(inside), section))
            place = end
            continue
        if heading := re.match(r"(#+) ", line):
            headings.append(len(heading[1]))
            section = len(headings)
        if line.startswith("|"):
            end = place
            while end < len(lines) and lines[end].startswith("|"):
                end += 1
            tables.append((lines[place].count("|"), end - place - 2))
            prose.setdefault(section, []).extend(lines[place:end])
            place = end
            continue
        prose.setdefault(section, []).append(line)
        place += 1
    return Page(path, tuple(headings), prose, tuple(blocks), tuple(tables))


def shell_lines(page: Page) -> Iterator[str]:
    """Lines of shell code, continued ones joined; and inline code that starts a program of ours."""
    for block in page.blocks:
        if block.language in _SHELL_FENCES:
            yield from "\n".join(block.lines).replace("\\\n", " ").splitlines()
    for section in page.prose:
        for code in page.inline_code(section):
            if _LAUNCHER.match(code):
                yield code


def words_of(line: str) -> list[str]:
    """The words of a shell line without comment, substituted commands and dots that stand for more."""
    words = shlex.split(re.sub(r"\$\([^)]*\)", "", line), comments=True)
    return [word for word in words if word != "..."]


def commands(page: Page) -> Iterator[tuple[str, list[str]]]:
    """(program such as ``launch/train.py``, its arguments) of every command that starts one."""
    for line in shell_lines(page):
        if found := _LAUNCHER.match(line.strip()):
            words = words_of(line)
            program = found["program"]
            yield program, words[words.index(program) + 1 :]
