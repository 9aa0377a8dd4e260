"""Whether a text is code, and in which language: by signs, for fences that name one."""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable

# A line that opens like a statement. Prose may have one such line, hardly two.
_CODE_LINE = re.compile(
    r"[ \t]*(?:"
    + "|".join(
        (
            r"(?:async )?def \w+ *\(",
            r"class \w+ *[:({]",
            r"import [\w.]+(?: as \w+)? *;?$",
            r"from [\w.]+ import ",
            r"return [\w(\[{\"'-].*[\w)\]}\"';]$",
            r"(?:for|while|if|elif)\b.*:$",
            r"(?:else|try|finally):$",
            r"except\b.*:$",
            r"with .+:$",
            r"print *\(.*\);?$",
            r"print ['\"].*$",
            r"#include *[<\"]",
            r"(?:public|private|protected|static) \w+",
            r"(?:const|let|var) \w+ *=",
            r"(?:function|func|fn) \w* *\(",
            r"(?:SELECT|INSERT INTO|UPDATE|CREATE TABLE|DELETE FROM) .+",
            # "Siamese = Cat" is a table, "count = 0" a statement
            r"[A-Za-z_][\w.]*(?:\[[^\]]*\])? *[+*/-]?= *(?=[^= ])"
            r"(?=.*[(\[{\"';+*/]|\d+$|True$|False$|None$)",
            r"[\w.]+\(.*\) *;?$",
            r"[{}] *;?$",
        )
    )
    + ")"
)

# How a file opens tells its language; the first that matches counts.
_OPENINGS: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("php", re.compile(r"<\?php\b")),
    ("bash", re.compile(r"#!.*\b(?:ba|z)?sh\b")),
    ("perl", re.compile(r"#!.*\bperl\b")),
    ("python", re.compile(r"#!.*\bpython")),
    (
        "cpp",
        re.compile(
            r"#include\b(?s:.)*(?:std::|using namespace|\bc(?:out|in|err) ?[<>]{2}|<vector>|<string>)"
        ),
    ),
    ("c", re.compile(r"#include\b")),
    ("csharp", re.compile(r"using System\b")),
    ("html", re.compile(r"<(?:!DOCTYPE|html|head|body|div|form|table|ul)\b", re.I)),
    (
        "sql",
        re.compile(
            r"(?:SELECT\b(?s:.)+?\bFROM\b|INSERT INTO\b|UPDATE \w+\s+SET\b|CREATE (?:TABLE|VIEW|INDEX)\b"
            r"|DELETE FROM\b|ALTER TABLE\b)"
        ),
    ),
    ("ruby", re.compile(r"(?:def \w+|class \w+|module \w+)(?s:.)*^end\b", re.M)),
)
# What is in code whose lines end in semicolons and braces.
_INSIDES: tuple[tuple[str, re.Pattern[str]], ...] = (
    ("cpp", re.compile(r"\bstd::|\bcout ?<<|^(?:public|private|protected):", re.M)),
    ("csharp", re.compile(r"\bConsole\.|\bstring\[?\]? \w+|\b(?:static|public) (?:string|bool)\b")),
    ("java", re.compile(r"\bSystem\.out\b|\bString\b|^import java|\b(?:public|private) \w+", re.M)),
    ("rust", re.compile(r"\bfn \w+\(|\blet mut\b|\bprintln!")),
    ("go", re.compile(r"^func \w+\(|:= ", re.M)),
    ("javascript", re.compile(r"\b(?:const|let|var|function)\b|=>|\bconsole\.|\bdocument\.")),
    ("css", re.compile(r"^[.#]?[\w-]+ *\{\s*[\w-]+: [^;]+;", re.M)),
)
_LINE_END = re.compile(r"[;{}]\s*(?://.*)?$")
_STATEMENT_END = re.compile(r"[;{})>]\s*(?://.*)?$|^(?://|/\*)")


def code_lines(lines: Iterable[str]) -> int:
    """Number of lines that open like statements."""
    return sum(_CODE_LINE.match(line) is not None for line in lines)


def parses_as_python(text: str) -> bool:
    """Whether a text is Python that does something; a word or a sum by itself is not enough."""
    if "(" not in text and "=" not in text and "import" not in text:
        return False
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call) for node in body)


def code_language(text: str, usual: str) -> str:
    """The language of a text all of which is code; "" where it is not.

    Args:
        usual: taken where the text is code that shows no language.
    """
    if parses_as_python(text):
        return "python"
    text = text.strip()
    for language, opening in _OPENINGS:
        if opening.match(text):
            return language
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines or not lines[0].lstrip()[0].isascii():
        return ""
    if not (_CODE_LINE.match(lines[0]) or _STATEMENT_END.search(lines[0])):
        return ""
    ends = sum(_LINE_END.search(line) is not None for line in lines)
    if 2 * ends >= len(lines) and ("(" in text or "{" in text):
        for language, inside in _INSIDES:
            if inside.search(text):
                return language
        return usual if "{" in text else ""
    hits = code_lines(lines)
    return usual if hits >= 2 and 2 * hits >= len(lines) else ""
