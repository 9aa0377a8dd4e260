"""What becomes of an answer before it is used."""

from __future__ import annotations

import pytest

from data_modules.config import PostProcess, TaskConfig, Unification
from trainer.evaluation.postprocess import processed

CODE = "def f(x):\n    return x"
CHAT = f"Sure, here it is:\n\n```python\n{CODE}\n```\n\nHope it helps!"


def task(*steps: PostProcess, **settings: object) -> TaskConfig:
    return TaskConfig(postprocess=list(steps), **settings)  # type: ignore[arg-type]


LISTS = [Unification.numbered_list, Unification.whitespace]


@pytest.mark.parametrize(
    ("settings", "answer", "wanted"),
    [
        (TaskConfig(unify=LISTS), "\n- a\n- b \n", "1. a\n2. b"),
        (TaskConfig(), " a\n", "a"),
        (task(), " a\n", " a\n"),
        (task(PostProcess.strip, unify=LISTS), " - a\n- b ", "- a\n- b"),
        (task(PostProcess.fence_code), CODE, f"```python\n{CODE}\n```"),
        (task(PostProcess.fence_code), "It is a matter of taste.", "It is a matter of taste."),
        (task(PostProcess.extract_code), CHAT, CODE),
        (task(PostProcess.extract_code), CODE, CODE),
        (task(PostProcess.extract_code), f"```\n{CODE}", CODE),  # cut before it was closed
        (task(PostProcess.extract_code), f"```sh\npip\n```\n{CHAT}", CODE),
        (task(PostProcess.extract_code), "```js\na()\n```\n```sh\nb\n```", "a()"),
        (task(PostProcess.extract_code, code_language="sh"), f"{CHAT}\n```sh\nls\n```", "ls"),
        (task(PostProcess.extract_code, PostProcess.fence_code), CHAT, f"```python\n{CODE}\n```"),
        (task(PostProcess.first_line), "\n  UP \nbecause", "UP"),
        (task(PostProcess.first_line), " ", ""),
        (task(PostProcess.first_format, format="UP|DOWN|[0-9]"), "It goes\nDOWN then UP", "DOWN"),
        (task(PostProcess.first_format, format="UP|DOWN"), "UPWARDS", "UPWARDS"),
        (task(PostProcess.first_format, format=r"\( \w \)"), "so (\n a )  yes", "( a )"),
    ],
)
def test_steps(settings: TaskConfig, answer: str, wanted: str) -> None:
    assert processed(answer, settings) == wanted
    assert processed(wanted, settings) == wanted, "processing twice changes nothing"
