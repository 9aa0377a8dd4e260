"""A folder of a user's own files, planned as ``launch/plan.py`` does, for the tests of commands."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from launch.composing import addable, checked_config
from launch.composing import report_faults as report
from tests.shared_data import REPOSITORY
from trainer import exit_codes
from trainer.config.schema import Config
from trainer.planning import show_plan

WORDS = [f"w{number}" for number in range(40)]
ROWS = 24


@dataclass
class Folder:
    """Three good tasks and a tokenizer; tests spoil them."""

    root: Path
    overrides: list[str] = field(default_factory=list)

    def write(self, task: str, lines: list[Any], split: str = "train") -> Path:
        """One JSONL file; text lines are written as they are."""
        path = self.root / "data" / split / f"{task}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = "".join(
            (line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines
        )
        path.write_text(text, encoding="utf-8")
        return path

    @property
    def arguments(self) -> list[str]:
        return [
            "data=folder",
            "cleaning@data.cleaning=none",  # the tasks' rows are each other's duplicates
            f"data.root={self.root}/data",
            f"data.cache_dir={self.root}/cache",
            "data.max_seq_len=64",
            "data.groups.hard=[code]",
            "data.tasks.chat.general=true",
            "model=tiny",
            f"model.tokenizer={self.root}/tokenizer",
            f"output_dir={self.root}/run",
            "balance@curriculum.phases.mix.balance=natural",
            "balance@curriculum.phases.specialize.balance=natural",
            "balance@curriculum.phases.hard.balance=natural",
            "global_batch_size=4",
            *self.overrides,
        ]


def row(number: int, words: int = 3) -> dict[str, str]:
    text = " ".join(WORDS[(number + place) % len(WORDS)] for place in range(words))
    return {"instruction": text, "output": WORDS[number % len(WORDS)]}


GOOD = [row(number) for number in range(ROWS)]


def word_tokenizer() -> PreTrainedTokenizerFast:
    """One token a word of :data:`WORDS`."""
    vocabulary = {word: number for number, word in enumerate(["<unk>", "</s>", "\n", *WORDS])}
    built = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.Split(Regex(r"</s>|\n|[^\s]+"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="</s>", unk_token="<unk>")


def plan(
    folder: Folder,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[Config], None] = show_plan,
) -> tuple[int, str, str]:
    """What ``launch/plan.py`` does behind Hydra, in this process: exit code, stdout, stderr.

    Args:
        command: what another file of ``launch`` does instead.
    """
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        tree = compose("train", overrides=addable(folder.arguments), return_hydra_config=True)
    HydraConfig.instance().set_config(tree)
    tree = tree.copy()
    with open_dict(tree):
        del tree["hydra"]
    code = 0
    try:
        report(lambda: command(checked_config(tree)))
    except SystemExit as end:
        code = int(str(end.code))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def refused(
    folder: Folder,
    capsys: pytest.CaptureFixture[str],
    command: Callable[[Config], None] = show_plan,
) -> list[str]:
    """The fault lines of a plan that must be refused."""
    code, out, error = plan(folder, capsys, command)
    assert code == exit_codes.USER_FAULT
    assert "Traceback" not in out + error
    head, *lines = error.strip().splitlines()
    assert re.fullmatch(r"polyphase: (1 fault|\d+ faults):", head), error
    assert not list(folder.root.rglob("metrics.jsonl"))
    assert not (folder.root / "run").exists()
    return [line.removeprefix("  - ") for line in lines]


def run(command: list[str], folder: Folder) -> tuple[int, str]:
    """A real command, launcher and all: exit code, and both streams together."""
    hidden = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_SIZE", "MASTER_PORT", "MASTER_ADDR")
    environment = {key: value for key, value in os.environ.items() if key not in hidden}
    result = subprocess.run(
        [*command, *folder.arguments],
        cwd=folder.root,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
        check=False,
        env=environment
        | {
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "DS_ACCELERATOR": "cpu",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        },
    )
    return result.returncode, result.stdout
