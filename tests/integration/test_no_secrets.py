"""A real run with secrets where none belong: none is in anything that it writes or prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from data_modules.masking import MASK
from tests.shared_data import REPOSITORY
from tests.shared_folder import GOOD, Folder, run, word_tokenizer

TOKEN = "hf_" + "aBcDeFgHiJ" * 3
WANDB = "0123456789abcdef" * 2 + "01234567"
PASSWORD = "swordfish42"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    made = Folder(tmp_path)
    for task in ("qa", "code", "chat"):
        made.write(task, GOOD)
    word_tokenizer().save_pretrained(tmp_path / "tokenizer")
    return made


def test_secrets_are_in_no_file_of_a_run(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("MY_PASSWORD", PASSWORD)
    monkeypatch.setenv("WANDB_API_KEY", WANDB)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(folder.root / f"wandb_{name}"))
    secrets = ["me:pw1234", TOKEN, PASSWORD, WANDB]
    cues = ["https://me:pw1234@h/x", *secrets[1:]]
    folder.overrides = [
        # texts that the run keeps and does not use
        f"data.tasks.qa.cues=[{','.join(repr(one) for one in cues)}]",
        *("+phase=mix", "limits.steps_per_phase=2", "precision=fp32", "logging.wandb=true"),
        *("evaluation.before_training=false", "evaluation.at_phase_end=false"),
        *("interference.every_steps=null", "cluster.threads_per_rank=1"),
    ]
    code, output = run([sys.executable, str(REPOSITORY / "launch/train.py")], folder)
    assert code == 0, output
    files = [path for path in (folder.root / "run").rglob("*") if path.is_file()]
    names = {path.name for path in files}
    assert {"config.yaml", "environment.json", "plan.json", "rank_0.log", "metrics.jsonl"} <= names
    for secret in secrets:
        assert secret not in output
        found = [path for path in files if secret.encode() in path.read_bytes()]
        assert found == [], secret
    for name in ("config.yaml", "environment.json"):
        assert MASK in (folder.root / "run" / name).read_text(encoding="utf-8"), name
