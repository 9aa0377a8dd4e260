"""Does an answer keep its task's output format? The unification rules, and the format as a whole."""

from __future__ import annotations

import re
from functools import lru_cache

from data_modules.config import TaskConfig
from data_modules.unification import violations

#: Name under which an answer that does not match ``TaskConfig.format`` is listed.
FORMAT = "format"


def format_violations(text: str, task: TaskConfig) -> list[str]:
    """Names of the rules that an answer breaks: those of ``unify``, and ``format`` where declared."""
    broken = violations(text, task)
    if task.format and not _pattern(task.format).fullmatch(" ".join(text.split())):
        broken.append(FORMAT)
    return broken


@lru_cache(maxsize=256)
def _pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression)
