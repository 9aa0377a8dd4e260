"""Boundaries: the tag and constraint texts that tell tasks apart in the prompt.

The tag opens the first user turn and the constraint closes every user turn, so the last words before
an answer name the task again. (In multilingual translation a tag far from the answer loses its hold
along the decoding steps, Sun et al., arXiv 2406.02876; hence both ends.)
"""

from __future__ import annotations

from data_modules.config import BoundaryConfig, TaskConfig
from data_modules.records import Message


def bounded(
    messages: tuple[Message, ...], task: TaskConfig, boundary: BoundaryConfig
) -> tuple[Message, ...]:
    """The same conversation with the task's tag and constraint added to its user turns."""
    tag = task.tag if boundary.tag else ""
    constraint = task.constraint if boundary.constraint else ""
    result: list[Message] = []
    for message in messages:
        if message.role == "user":
            content = f"{message.content}\n{constraint}" if constraint else message.content
            content = f"{tag} {content}" if tag else content
            tag = ""  # only the first user turn carries it
            message = Message("user", content)
        result.append(message)
    return tuple(result)
