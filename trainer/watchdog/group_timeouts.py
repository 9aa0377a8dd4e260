"""Timeouts of process groups, also of those that a library made with PyTorch's own default."""

from __future__ import annotations

from datetime import timedelta

from torch.distributed import distributed_c10d


def set_group_timeouts(seconds: float) -> None:
    """Give every process group that this rank belongs to the same timeout.

    DeepSpeed makes groups by ``new_group`` without one, which takes PyTorch's default: 30 minutes
    with gloo, 10 with NCCL. Call it again after anything that makes groups.
    """
    # PyTorch has no public list of its groups
    for group in distributed_c10d._world.pg_map:
        if not distributed_c10d._rank_not_in_group(group):
            distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)
