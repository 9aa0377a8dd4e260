"""The model card: what it says about prompts is what the exported tokenizer does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from data_modules.config import BoundaryConfig, DataConfig, TaskConfig
from data_modules.wording import prompt_for
from tests.shared_data import CHATML, byte_tokenizer
from trainer.config.schema import Config, PhaseConfig
from trainer.curriculum import Phase
from trainer.evaluation.results import Evaluation
from trainer.model_card import model_card
from trainer.prompt_template import bounded_tokenizer

TASKS = {
    "qa": TaskConfig(tag="[QA]", constraint="Be | brief.\nVery."),
    "code": TaskConfig(
        tag="[CODE]", tags={"zh": "[代码]", "en": "[CODE]"}, constraints={"zh": "用 ` 号。"}
    ),
    "chat": TaskConfig(general=True),
}


def card(boundary: bool = True, texts: BoundaryConfig | None = None) -> str:
    config = Config(run_name="r", data=DataConfig(tasks=TASKS), boundary=texts or BoundaryConfig())
    phase = Phase("mix", 1, 2, PhaseConfig(tasks=["qa"], boundary=boundary))
    uses = {"qa": {"rows": 3}, "chat": {"rows": 1}}
    results = Evaluation({})
    return model_card(config, [phase], {"phases": {"mix": {"tasks": uses}}}, results, "Starts.")


def test_the_texts_of_every_task_and_language_are_in_a_table() -> None:
    table = card().split("| task | language | tag | constraint |\n|---|---|---|---|\n")[1]
    assert table.splitlines() == [
        "| chat | any |  |  |",
        "| code | zh | `[代码]` | `` 用 ` 号。 `` |",
        "| code | en | `[CODE]` |  |",
        "| code | others | `[CODE]` |  |",
        "| qa | any | `[QA]` | `Be \\| brief.\\nVery.` |",
    ]


def test_picked_tasks_and_why() -> None:
    config = Config(run_name="r", data=DataConfig(tasks=TASKS))
    phases = [
        Phase("mix", 1, 2, PhaseConfig(tasks=["all"])),
        Phase("hard", 3, 4, PhaseConfig(tasks=["code"])),
    ]
    plan = {"phases": {phase.name: {"tasks": {"qa": {"rows": 3}}} for phase in phases}}
    assert "Tasks of" not in model_card(config, phases, plan, None, "Starts.")
    plan["phases"]["hard"]["auto_hard"] = {"words": "picked by lowest score: 1. code 0.100"}  # type: ignore[dict-item]
    text = model_card(config, phases, plan, None, "Starts.")
    assert "| hard | 3-4 | code |" in text
    assert "\n\nTasks of `hard`: picked by lowest score: 1. code 0.100.\n\n## Tasks\n" in text


def test_switched_off_texts_are_not_in_it() -> None:
    assert "[QA]" not in card(texts=BoundaryConfig(tag=False))
    for plain in (card(boundary=False), card(texts=BoundaryConfig(False, False))):
        assert "[QA]" not in plain
        assert "apply_chat_template" not in plain
        assert "chat template as it is" in plain


def test_the_example_runs_and_gives_the_prompt_of_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bounded_tokenizer(byte_tokenizer(CHATML), TASKS, BoundaryConfig()).save_pretrained(tmp_path)
    found = re.search(r"```python\n(.*?)```", card(), re.S)
    assert found
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(found[1], names)  # the card's own words
    tokenizer, inputs = names["tokenizer"], names["inputs"]
    text = tokenizer.decode(inputs["input_ids"][0])  # type: ignore[attr-defined, index]
    assert prompt_for("code", "...", TASKS, BoundaryConfig(), "zh") == "[代码] ...\n用 ` 号。"
    assert "[代码] ...\n用 ` 号。</s>" in text
