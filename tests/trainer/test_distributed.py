"""Random numbers are those that ``torch.manual_seed`` would give; a process alone needs no port."""

from __future__ import annotations

import subprocess
import sys

import torch

from data_modules.seeding import seed_of
from launch.submission.job import own_environment
from tests.shared_data import REPOSITORY
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


ALONE = """
import subprocess, sys
import torch, torch.distributed as dist
from trainer import distributed
from trainer.config.schema import Config

distributed.init(Config().cluster, distributed.ranks_from_environment())
one = torch.ones(1)
dist.all_reduce(one)
print("ranks", dist.get_world_size(), "sum", one.item(), flush=True)
if len(sys.argv) > 1:
    subprocess.run([sys.executable, "-c", sys.argv[1]], check=True)
"""


def test_a_child_of_a_running_process_starts_a_group_of_its_own() -> None:
    seen = subprocess.run(
        [sys.executable, "-c", ALONE, ALONE],
        capture_output=True,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env=own_environment() | {"DS_ACCELERATOR": "cpu"},
    )
    assert seen.returncode == 0, seen.stderr[-3000:]
    lines = [line for line in seen.stdout.splitlines() if line.startswith("ranks")]
    assert lines == ["ranks 1 sum 1.0"] * 2
