"""Shared by the integration tests: compose a run, train it here or under torchrun, read its metrics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from launch.composing import addable, prepare_root
from trainer.config.schema import Config
from trainer.config.strict_merge import to_config

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]


def composed(overrides: list[str]) -> Config:
    """The typed configuration of a run; the benchmark's data is generated if it is missing."""
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = to_config(compose("train", addable(overrides)))
    prepare_root(config)
    return config


def train_under_torchrun(cases: list[list[str]], ranks: int, scratch: Path) -> None:
    """Train runs one after another in one launch of ``ranks`` processes."""
    run_under_torchrun(HERE / "train_worker.py", cases, ranks, scratch)


def run_under_torchrun(worker: Path, cases: list[Any], ranks: int, scratch: Path) -> None:
    """Give cases to a worker file in one launch of ``ranks`` processes."""
    file = scratch / f"{worker.stem}_{ranks}.json"
    file.write_text(json.dumps(cases), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={ranks}"]
    command += ["--standalone", str(worker), str(file)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=900,  # a busy machine is no failure
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-6000:]


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """Every line of a run's metrics."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def steps_of(run: Path) -> list[dict[str, Any]]:
    """The lines that are training steps (evaluations have no loss)."""
    return [entry for entry in metrics_of(run) if "loss" in entry]


#: What is measured on clocks, or of the process: no two runs have it alike.
_CLOCKS = ("tokens_per_second", "supervised_tokens_per_second", "data_wait_seconds", "seconds")
_CLOCKS += ("share_of_time", "mfu", "mfu_of_matmul")
_CLOCK_FAMILIES = ("time/", "memory/")


def without_clocks(entry: dict[str, Any]) -> dict[str, Any]:
    """What of a line of metrics is the training's own, and the same whenever it is trained."""
    return {
        name: value
        for name, value in entry.items()
        if name not in _CLOCKS and not name.startswith(_CLOCK_FAMILIES)
    }
