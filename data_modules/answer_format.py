"""Does an answer have the format that its task declares?"""

from __future__ import annotations

import re
from functools import lru_cache

from data_modules.config import TaskConfig


def has_format(text: str, task: TaskConfig) -> bool:
    """Whether the whole answer, white space taken as single blanks, matches ``TaskConfig.format``.

    True for every answer of a task that declares none.
    """
    return not task.format or bool(_pattern(task.format).fullmatch(" ".join(text.split())))


@lru_cache(maxsize=256)
def _pattern(expression: str) -> re.Pattern[str]:
    return re.compile(expression)
