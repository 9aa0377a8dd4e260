"""A bare ``deepspeed.initialize`` loop on batches that are ready, with the same settings as polyphase."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import json
import os

import deepspeed
import torch
from contender import Clock, work_of_environment
from torch_loop import made
from work import ready_steps, threads_per_rank

from trainer.loss import inputs_of


def main() -> None:
    work = work_of_environment()
    torch.set_num_threads(threads_per_rank())
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    # as polyphase: gloo, and no extension to compile
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed("gloo", verbose=False)
    module, optimizer = made(work)
    settings = json.loads(work.path("deepspeed.json").read_text(encoding="utf-8"))
    engine, *_ = deepspeed.initialize(model=module, optimizer=optimizer, config=settings)
    engine.train()
    steps = ready_steps(work, rank, ranks)
    clock = Clock(work)
    for step in steps:
        for batch in step.batches:
            loss, _ = engine(**inputs_of(batch, engine.device))
            engine.backward(loss * ranks)
        engine.step()
        clock.step_done(sum(batch.tokens for batch in step.batches), module.causal_model)
    clock.save()


if __name__ == "__main__":
    main()
