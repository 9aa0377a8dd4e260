"""Metric sinks: what is written can be read back by whoever reads such files."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from trainer.config.schema import Config, LoggingConfig
from trainer.config.strict_merge import to_plain
from trainer.metrics import Metrics, open_metrics
from trainer.run_directory import RunDirectory

VALUES = {"phase": "mix", "loss": 2.5, "tokens": 128, "loss/qa": 0.1 + 0.2}


def opened(folder: Path, is_main: bool = True, **settings: Any) -> Metrics:
    return open_metrics(
        LoggingConfig(**settings),
        "one",
        RunDirectory(folder),
        to_plain(Config()),
        goes_on=False,
        is_main=is_main,
    )


def lines(folder: Path) -> list[Any]:
    text = (folder / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_jsonl_keeps_every_value(tmp_path: Path) -> None:
    metrics = opened(tmp_path)
    metrics.write(1, VALUES)
    metrics.write(2, {"loss": 2.0})
    # On disk at once: a killed run keeps its metrics.
    assert lines(tmp_path) == [{"step": 1, **VALUES}, {"step": 2, "loss": 2.0}]
    metrics.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl"]


def test_a_continuing_run_appends(tmp_path: Path) -> None:
    for step in (1, 2):
        metrics = opened(tmp_path)
        metrics.write(step, {"loss": 0.5})
        metrics.close()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_other_ranks_write_nothing(tmp_path: Path) -> None:
    metrics = opened(tmp_path, is_main=False, tensorboard=True, wandb=True)
    metrics.write(1, VALUES)
    metrics.close()
    assert list(tmp_path.iterdir()) == []


def test_tensorboard_files_are_readable(tmp_path: Path) -> None:
    metrics = opened(tmp_path, tensorboard=True)
    for step, loss in ((1, 2.5), (2, 2.0)):
        metrics.write(step, VALUES | {"loss": loss})
    metrics.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert sorted(events.Tags()["scalars"]) == ["loss", "loss/qa", "tokens"], "numbers only"
    assert [(one.step, one.value) for one in events.Scalars("loss")] == [(1, 2.5), (2, 2.0)]
    assert events.Scalars("loss/qa")[0].value == pytest.approx(0.3)
    assert len(lines(tmp_path)) == 2, "metrics.jsonl is written beside any other sink"


# The slowest test here: Weights & Biases starts a service process of its own.
@pytest.mark.timeout(60)
def test_wandb_offline_writes_a_run_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / name.lower()))
    secret = "hf_" + "aBcDeFgHiJ" * 3
    monkeypatch.setattr("sys.argv", ["train.py", "++seed=7", f"++model.path=https://x/{secret}"])
    metrics = opened(tmp_path, wandb=True)
    assert sys.argv[-1].endswith(secret), "it is put back"
    metrics.write(1, VALUES)
    metrics.close()
    (file,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    # The run's records: its name, a metric, and a setting from the middle of the configuration. Its
    # service writes them shortly after the run was closed.
    expected = (b"one", b"loss/qa", b"max_grad_norm")
    for _ in range(150):
        missing = [one for one in expected if one not in file.read_bytes()]
        if not missing:
            break
        time.sleep(0.1)
    assert missing == []
    kept = [path for path in (tmp_path / "wandb").rglob("*") if path.is_file()]
    assert b"++seed=7" in file.read_bytes(), "the command line is kept"
    assert not [path for path in kept if secret.encode() in path.read_bytes()]
