"""Run by test_measured_memory in every rank: train a few steps, and leave what they took in a file."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from benchmarks.measured_memory import measure
from trainer import distributed
from trainer.config.schema import Config


def command(config: Config) -> None:
    """Measure this rank."""
    ranks = distributed.ranks_from_environment()
    torch.set_num_threads(1)
    device = distributed.init(config.cluster, ranks)
    folder = Path(config.output_dir)
    found = measure(config, device, ranks.rank, ranks.world_size, folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"rank_{ranks.rank}.json").write_text(json.dumps(found.resident), encoding="utf-8")
