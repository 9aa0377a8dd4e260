"""The limit: a bare PyTorch loop on batches that are ready, one process per core, no communication.

Forward, backward, clip, step; the model, its attention and its loss are polyphase's own.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import os

import torch
from contender import Clock, work_of_environment
from torch import nn
from work import PHASE, Work, config_of, ready_steps, threads_per_rank

from trainer.engine import parameter_groups
from trainer.loss import MultiTaskLM, inputs_of
from trainer.model import load_model
from trainer.train import make_data


def made(work: Work) -> tuple[MultiTaskLM, torch.optim.AdamW]:
    """Model and optimizer as polyphase builds them."""
    config = config_of(work)
    data = make_data(config, None)
    model = load_model(config.model, data.tokenizer, None, work.seed)
    module = MultiTaskLM(model, len(data.tasks))
    optimizer = torch.optim.AdamW(
        parameter_groups(module, config.optimizer),
        lr=work.lr,
        betas=(work.beta1, work.beta2),
        eps=config.optimizer.eps,
        fused=True,
    )
    return module, optimizer


def main() -> None:
    work = work_of_environment()
    torch.set_num_threads(threads_per_rank())
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    module, optimizer = made(work)
    module.train()
    steps = ready_steps(work, rank, ranks)
    device = torch.device("cpu")
    clock = Clock(work)
    for step in steps:
        for batch in step.batches:
            loss, _ = module(**inputs_of(batch, device))
            loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), work.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        clock.step_done(sum(batch.tokens for batch in step.batches), module.causal_model)
    clock.save(phase=PHASE)


if __name__ == "__main__":
    main()
