"""A folder of good files for every test of a command, and no launcher's environment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra.core.hydra_config import HydraConfig
from transformers import PreTrainedTokenizerFast

from tests.shared_folder import GOOD, Folder, word_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return word_tokenizer()


@pytest.fixture
def folder(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> Folder:
    made = Folder(tmp_path)
    for task in ("qa", "code", "chat"):
        made.write(task, GOOD)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    return made


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "LOCAL_SIZE"):
        monkeypatch.delenv(name, raising=False)
    yield
    HydraConfig.instance().cfg = None
