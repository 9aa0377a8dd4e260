"""Boundary texts: the tag opens the first user turn, the constraint closes every one."""

from __future__ import annotations

import pytest

from data_modules.boundary import bounded
from data_modules.config import BoundaryConfig, TaskConfig
from data_modules.records import Message

TASK = TaskConfig(tag="[qa]", constraint="Answer only.")
SINGLE = (Message("user", "Why?"), Message("assistant", "Because."))
MULTI = (
    Message("system", "Be kind."),
    Message("user", "Why?"),
    Message("assistant", "Because."),
    Message("user", "Really?"),
    Message("assistant", "Yes."),
)


def contents(messages: tuple[Message, ...]) -> list[str]:
    return [message.content for message in messages]


@pytest.mark.parametrize(
    ("tag", "constraint", "prompt"),
    [
        (True, True, "[qa] Why?\nAnswer only."),
        (True, False, "[qa] Why?"),
        (False, True, "Why?\nAnswer only."),
        (False, False, "Why?"),
    ],
)
def test_each_text_is_switched_by_itself(tag: bool, constraint: bool, prompt: str) -> None:
    assert contents(bounded(SINGLE, TASK, BoundaryConfig(tag, constraint))) == [prompt, "Because."]


def test_tag_once_constraint_on_every_user_turn() -> None:
    assert contents(bounded(MULTI, TASK, BoundaryConfig())) == [
        "Be kind.",
        "[qa] Why?\nAnswer only.",
        "Because.",
        "Really?\nAnswer only.",
        "Yes.",
    ]


def test_roles_stay_and_the_given_messages_are_not_changed() -> None:
    before = contents(MULTI)
    result = bounded(MULTI, TASK, BoundaryConfig())
    assert [m.role for m in result] == [m.role for m in MULTI]
    assert contents(MULTI) == before


def test_a_task_without_texts_adds_none() -> None:
    assert bounded(MULTI, TaskConfig(), BoundaryConfig()) == MULTI
    # No stray space or line break where one of the two is missing.
    assert bounded(SINGLE, TaskConfig(tag="T"), BoundaryConfig())[0].content == "T Why?"
    assert bounded(SINGLE, TaskConfig(constraint="C"), BoundaryConfig())[0].content == "Why?\nC"
