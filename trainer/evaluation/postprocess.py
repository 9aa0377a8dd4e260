"""Output post-processing of a task: what is done to an answer before it is used.

Answers are judged as generated and after it, so that what it wins, and hides, can be seen.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from data_modules.config import PostProcess, TaskConfig, Unification
from data_modules.unification import split_fences, unify


def processed(answer: str, task: TaskConfig) -> str:
    """The answer after the steps of ``TaskConfig.postprocess``, in their order."""
    for step in task.postprocess:
        answer = _STEPS[step](answer, task)
    return answer


def _strip(text: str, _: TaskConfig) -> str:
    return text.strip()


def _fence_code(text: str, task: TaskConfig) -> str:
    return unify(text, replace(task, unify=[Unification.code_fence]))


def _extract_code(text: str, task: TaskConfig) -> str:
    """The inside of the first fence in the task's language or in none, else of the first; or the text."""
    fences = [piece.split("\n") for is_fence, piece in split_fences(text) if is_fence]
    if not fences:
        return text
    language = task.code_language.strip().lower()
    lines = next(
        (lines for lines in fences if lines[0].strip(" `~").lower() in ("", language)), fences[0]
    )
    closed = len(lines) > 1 and re.fullmatch(r" {0,3}(`{3,}|~{3,})\s*", lines[-1])
    return "\n".join(lines[1:-1] if closed else lines[1:])


def _first_line(text: str, _: TaskConfig) -> str:
    return next((line.strip() for line in text.split("\n") if line.strip()), "")


def _first_format(text: str, task: TaskConfig) -> str:
    """The first stretch of whole words that has the task's format; the text where none has."""
    words = " ".join(text.split())
    found = re.search(rf"(?<!\S)(?:{task.format})(?!\S)", words) if task.format else None
    return found.group() if found else text


_STEPS: dict[PostProcess, Callable[[str, TaskConfig], str]] = {
    PostProcess.strip: _strip,
    PostProcess.unify: unify,
    PostProcess.fence_code: _fence_code,
    PostProcess.extract_code: _extract_code,
    PostProcess.first_line: _first_line,
    PostProcess.first_format: _first_format,
}
assert set(_STEPS) == set(PostProcess)
