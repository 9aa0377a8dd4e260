"""Does an answer keep its task's output format? The unification rules, and the format as a whole."""

from __future__ import annotations

from data_modules.answer_format import has_format
from data_modules.config import TaskConfig
from data_modules.unification import violations

#: Name under which an answer that does not match ``TaskConfig.format`` is listed.
FORMAT = "format"


def format_violations(text: str, task: TaskConfig) -> list[str]:
    """Names of the rules that an answer breaks: those of ``unify``, and ``format`` where declared."""
    return [*violations(text, task), *([] if has_format(text, task) else [FORMAT])]
