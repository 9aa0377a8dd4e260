"""How long a checkpoint keeps training waiting: ours, DeepSpeed's own, and a mere copy of the state.

torchrun --nproc-per-node 2 benchmarks/checkpoint_stall.py --folder /tmp/stall

One model of some 60 million parameters under ZeRO-2 in fp32; the three take turns behind a step. Prints
one JSON object: seconds of each (the slowest rank's), and of the steps while ours is being written in the
background against those while nothing is.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from transformers import AutoConfig, AutoModelForCausalLM

from data_modules.collate import Batch, collate
from data_modules.samples import Sample, SampleStore
from trainer import attention, distributed
from trainer.checkpoint.live_state import adam_step, frozen_checksum, owned_fragments
from trainer.checkpoint.trainer_state import TrainedPhase, TrainerState
from trainer.checkpoint.writer import Writer
from trainer.config.schema import Config, Precision
from trainer.distributed import Ranks
from trainer.engine import ZeroEngine
from trainer.loss import SupervisedHead

VOCABULARY, ROWS, LENGTH = 8192, 4, 32


def made_engine(device: torch.device, world_size: int) -> ZeroEngine:
    """The engine around a model with random weights."""
    torch.manual_seed(0)
    described = AutoConfig.for_model(
        "llama",
        vocab_size=VOCABULARY,
        hidden_size=768,
        intermediate_size=2048,
        num_hidden_layers=7,
        num_attention_heads=12,
        num_key_value_heads=12,
    )
    model = AutoModelForCausalLM.from_config(
        described, dtype=torch.float32, attn_implementation=attention.NAME
    )
    SupervisedHead.adopt(model.get_output_embeddings())
    config = Config(precision=Precision.fp32)
    return ZeroEngine(model, 1, config, device, world_size)


def made_batch(rank: int) -> Batch:
    """One micro-batch of made-up tokens."""
    draw = np.random.default_rng(rank)
    mask = np.arange(LENGTH) > 0
    rows = [Sample("qa", draw.integers(0, VOCABULARY, LENGTH), mask) for _ in range(ROWS)]
    store = SampleStore.build(("qa",), rows)
    return collate(store, np.arange(ROWS), np.full(ROWS, 1e-3), 0, packing=False, empty=False)


def slowest(seconds: float) -> float:
    """The longest time of all ranks; collective."""
    value = torch.tensor([seconds], dtype=torch.float64)
    dist.all_reduce(value, dist.ReduceOp.MAX)
    return round(float(value), 4)


def timed(work: Any) -> float:
    """Seconds of the slowest rank, all starting together."""
    dist.barrier()
    began = time.perf_counter()
    work()
    return slowest(time.perf_counter() - began)


class Saves:
    """The three ways to save, of one engine."""

    def __init__(self, engine: ZeroEngine, batch: Batch, ranks: Ranks, folder: Path) -> None:
        self.engine, self.batch, self.ranks, self.folder = engine, batch, ranks, folder
        self.writer = Writer(folder / "ours", ranks.rank, ranks.world_size, "x", 1, 600.0)
        self.frozen = frozen_checksum(engine)
        self.step = 0
        self.copies: dict[str, torch.Tensor] = {}

    def train_step(self) -> None:
        """One step, to its end."""
        self.step += 1
        self.engine.train_step([self.batch], 1e-4).read()

    def ours(self) -> None:
        """Copy the state, and write it in the background."""
        state = TrainerState(
            self.step,
            [TrainedPhase("mix", 1, 10**6, "", {})],
            settings={},
            model={},
            parameters={},
            frozen=self.frozen,
            adam_step=adam_step(self.engine),
            world_size=self.ranks.world_size,
            zero_stage=2,
        )
        self.writer.save(owned_fragments(self.engine, *self._place), state)

    def copy(self) -> None:
        """Copy the state into memory that is there."""
        for one in owned_fragments(self.engine, *self._place):
            for kind, tensor in one.tensors.items():
                key = f"{kind}{one.name}{one.start}"
                self.copies.setdefault(key, torch.empty_like(tensor)).copy_(tensor)

    def deepspeed(self) -> None:
        """DeepSpeed's own, with its default writer."""
        folder = str(self.folder / "deepspeed")
        self.engine.engine.save_checkpoint(folder, tag=f"step{self.step}")

    def turn(self) -> dict[str, float]:
        """All of them behind a step; seconds."""
        taken = {
            "step": timed(self.train_step),
            "copy": timed(self.copy),
            "ours": timed(self.ours),
        }
        began = time.perf_counter()
        taken["step_beside"] = timed(self.train_step)
        self.writer.wait()
        taken["background"] = slowest(time.perf_counter() - began)
        taken["deepspeed"] = timed(self.deepspeed)
        if self.ranks.is_main:
            shutil.rmtree(self.folder / "deepspeed")
        dist.barrier()
        return taken

    @property
    def _place(self) -> tuple[int, int]:
        return self.ranks.rank, self.ranks.world_size


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=4)
    options = parser.parse_args()
    ranks = distributed.ranks_from_environment()
    torch.set_num_threads(1)
    device = distributed.init(Config().cluster, ranks)
    engine = made_engine(device, ranks.world_size)
    if ranks.is_main:
        shutil.rmtree(options.folder, ignore_errors=True)
    dist.barrier()
    saves = Saves(engine, made_batch(ranks.rank), ranks, options.folder)
    saves.turn()  # makes the buffers
    turns = [saves.turn() for _ in range(options.repeats)]
    if ranks.is_main:
        found = {name: [turn[name] for turn in turns] for name in turns[0]}
        medians = {name: statistics.median(seconds) for name, seconds in found.items()}
        count = sum(parameter.numel() for parameter in engine.module.parameters())
        print(json.dumps({"parameters": count, "seconds": found, "median": medians}))
    distributed.shutdown()


if __name__ == "__main__":
    main()
