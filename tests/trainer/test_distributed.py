"""Random numbers of a step: those that ``torch.manual_seed`` would give, and nothing kept of seeding."""

from __future__ import annotations

import torch

from data_modules.seeding import seed_of
from trainer.distributed import seed_generators


def test_a_steps_random_numbers_are_a_function_of_seed_step_and_rank() -> None:
    drawn = {}
    for case in [(0, 1, 0), (0, 2, 0), (0, 1, 1), (1, 1, 0)]:
        seed_generators(*case)
        drawn[case] = torch.rand(4)
        torch.manual_seed(seed_of(case[0], "step", *case[1:]) % 2**63)
        assert torch.equal(torch.rand(4), drawn[case])
    assert len({tuple(one.tolist()) for one in drawn.values()}) == 4


def test_seeding_keeps_nothing() -> None:
    if torch.cuda.is_initialized():
        return
    before = len(torch.cuda._queued_calls)
    for step in range(10):
        seed_generators(0, step, 0)
    assert len(torch.cuda._queued_calls) == before
