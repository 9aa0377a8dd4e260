"""Timeouts of process groups, also of those that a library made with PyTorch's own default."""

from __future__ import annotations

from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d


def set_group_timeouts(seconds: float) -> None:
    """Give every process group that this rank belongs to the same timeout.

    DeepSpeed makes groups by ``new_group`` without one, which takes PyTorch's default: 30 minutes
    with gloo, 10 with NCCL. Call it again after anything that makes groups.
    """
    for group in _groups():
        distributed_c10d._set_pg_timeout(timedelta(seconds=seconds), group)


def group_timeouts() -> dict[str, float]:
    """The timeout of every process group that this rank belongs to, in seconds, read off its backend."""
    return {
        f"{group.group_name}/{kind}": group._get_backend(
            torch.device(kind)
        ).options._timeout.total_seconds()
        for group in _groups()
        for kind in sorted({device.type for device in group._device_types})
        if kind == "cpu" or torch.cuda.is_available()
    }


def _groups() -> list[dist.ProcessGroup]:
    # PyTorch has no public list of its groups
    return [
        group
        for group in distributed_c10d._world.pg_map
        if not distributed_c10d._rank_not_in_group(group)
    ]
