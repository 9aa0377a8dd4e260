"""Sharded checkpoints: written under a temporary name, marked complete, then renamed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch.distributed as dist

from trainer.engine import ZeroEngine
from trainer.run_directory import write_json

COMPLETE = "complete.json"


def save(engine: ZeroEngine, folder: Path, state: dict[str, Any], is_main: bool) -> None:
    """Write the engine's shards and the trainer's ``state`` to ``folder``; collective."""
    scratch = folder.with_name(folder.name + ".tmp")
    if is_main:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
    dist.barrier()
    engine.save_sharded(scratch)
    dist.barrier()
    if is_main:
        write_json(scratch / COMPLETE, state)
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)
    dist.barrier()
