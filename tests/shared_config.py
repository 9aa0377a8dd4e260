"""A sound configuration, and ways to break it, for the tests of its rules."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from data_modules.config import DataConfig, SourceConfig, TaskConfig
from data_modules.faults import ConfigFault, Fault
from trainer.config.schema import Config, CurriculumConfig, ModelConfig, PhaseConfig
from trainer.config.validate import validate

Change = Callable[[Config], None]
#: change, where, seen, rule, part of the remedy
Rule = tuple[Change, str, str, str, str]


def sound_config(folder: Path) -> Config:
    """A valid configuration in ``folder``: tasks qa, code and the general chat; one phase."""
    for name in ("qa", "code", "chat"):
        for split in ("train", "eval"):
            path = folder / "data" / split / f"{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for name in ("config.json", "tokenizer_config.json"):
        (folder / "model").mkdir(exist_ok=True)
        (folder / "model" / name).touch()
    (folder / "empty").mkdir()
    tasks = {
        name: TaskConfig({"main": SourceConfig(f"train/{name}.jsonl", f"eval/{name}.jsonl")})
        for name in ("qa", "code", "chat")
    }
    tasks["chat"].general = True
    return Config(
        run_name="test",
        output_dir="outputs/test",
        data=DataConfig(name="test", root="data", tasks=tasks, groups={"hard": ["code"]}),
        curriculum=CurriculumConfig(phases={"mix": PhaseConfig(epochs=1.0, replay=0.3)}),
        model=ModelConfig(name="m", path="./model"),
    )


def faults_of(config: Config, ranks: int = 1) -> list[Fault]:
    with pytest.raises(ConfigFault) as caught:
        validate(config, ranks)
    return caught.value.faults


def put(key: str, value: object) -> Change:
    """Set one dotted key."""

    def change(config: Config) -> None:
        *path, last = key.split(".")
        place: object = config
        for name in path:
            place = place[name] if isinstance(place, dict) else getattr(place, name)
        if isinstance(place, dict):
            place[last] = value
        else:
            setattr(place, last, value)

    return change


def both(*changes: Change) -> Change:
    def change(config: Config) -> None:
        for one in changes:
            one(config)

    return change


def check(config: Config, rule: Rule) -> None:
    """Breaking ``config`` by the rule's change is exactly one fault, in these words."""
    change, where, seen, words, remedy = rule
    change(config)
    (fault,) = faults_of(config)
    assert (fault.where, fault.seen) == (where, seen)
    assert words in fault.rule
    assert remedy in fault.remedy
    assert str(fault).startswith(f"{where}: {seen}; ")


def numbered(rules: list[Rule]) -> list[str]:
    """Names of the rules' tests."""
    return [f"{number}-{rule[1]}" for number, rule in enumerate(rules)]
