"""Process groups: one setup for ``deepspeed``, ``torchrun`` and plain ``python``."""

from __future__ import annotations

import datetime
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from data_modules.faults import UserFault
from data_modules.seeding import seed_of
from trainer.config.schema import ClusterConfig
from trainer.faults import TrainingFault
from trainer.interfaces import choose_interface

Made = TypeVar("Made")

_control: dist.ProcessGroup | None = None
_neighbours: dict[int, dist.ProcessGroup] = {}
_timeout: datetime.timedelta | None = None


@dataclass(frozen=True)
class Ranks:
    """This process among all."""

    rank: int
    world_size: int
    local_rank: int
    local_world_size: int

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def ranks_from_environment() -> Ranks:
    """Read the launcher's variables; without a launcher this is the only process."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    return Ranks(
        rank=int(os.environ.get("RANK", "0")),
        world_size=world_size,
        local_rank=int(os.environ.get("LOCAL_RANK", "0")),
        # deepspeed names it LOCAL_SIZE, torchrun LOCAL_WORLD_SIZE
        local_world_size=int(
            os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("LOCAL_SIZE", str(world_size)))
        ),
    )


def set_threads(config: ClusterConfig, ranks: Ranks) -> None:
    """Share the host's cores among its ranks; more threads than cores slow CPU ranks manifold."""
    cores = len(os.sched_getaffinity(0))
    threads = config.threads_per_rank or max(1, cores // ranks.local_world_size)
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)


def seed_generators(seed: int, global_step: int, rank: int) -> None:
    """Seed this rank's generators for one step: dropout is a function of the step, whatever came before.

    So nothing of them has to be kept to go on from a step, and ranks drop different units.
    """
    number = seed_of(seed, "step", global_step, rank) % 2**63
    # torch.manual_seed would also note down a stack trace for each kind of device that is not in use,
    # in a list that grows with every step.
    torch.default_generator.manual_seed(number)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed(number)


def init(config: ClusterConfig, ranks: Ranks) -> torch.device:
    """Start the process group through DeepSpeed, unless it runs, and return this rank's device."""
    os.environ.setdefault("RANK", str(ranks.rank))
    os.environ.setdefault("LOCAL_RANK", str(ranks.local_rank))
    os.environ.setdefault("WORLD_SIZE", str(ranks.world_size))
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    if "MASTER_PORT" not in os.environ:
        assert ranks.world_size == 1, "a launcher sets MASTER_PORT"
        # The store takes a free port itself, in this process and in children that inherit the variable:
        # a number found here could be taken by another process, and is taken by this one for its children.
        os.environ["MASTER_PORT"] = "0"
    if not torch.cuda.is_available():
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
    import deepspeed

    if not torch.cuda.is_available():
        # Its shared-memory collectives are compiled for over a minute at the first start.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    else:
        torch.cuda.set_device(ranks.local_rank)
    if ranks.local_world_size < ranks.world_size:
        choose_interface()
    global _timeout
    _timeout = datetime.timedelta(seconds=config.process_group_timeout_s)
    # DeepSpeed keeps groups made of the first process group: it must outlive a single run.
    deepspeed.init_distributed(
        dist_backend="nccl" if torch.cuda.is_available() else "gloo",
        timeout=_timeout,
        verbose=False,
    )
    return (
        torch.device("cuda", ranks.local_rank) if torch.cuda.is_available() else torch.device("cpu")
    )


def on_first_local_rank(ranks: Ranks, work: Callable[[], None]) -> None:
    """Run ``work`` once per host while the other ranks wait.

    Raises:
        UserFault: on every rank, if any host's work raised one; no rank is left waiting.
    """
    fault: UserFault | None = None
    if ranks.local_rank == 0:
        try:
            work()
        except UserFault as error:
            fault = error
    faults: list[UserFault | None] = [None] * ranks.world_size
    dist.all_gather_object(faults, fault)
    for one in faults:
        if one is not None:
            raise one


def on_every_rank(ranks: Ranks, make: Callable[[], Made]) -> Made:
    """What ``make`` returns on this rank; collective.

    Raises:
        UserFault: on every rank, if any rank's ``make`` raised one; no rank is left waiting.
    """
    made: Any = None
    fault: UserFault | None = None
    try:
        made = make()
    except UserFault as error:
        fault = error
    faults: list[UserFault | None] = [None] * ranks.world_size
    dist.all_gather_object(faults, fault)
    for one in faults:
        if one is not None:
            raise one
    result: Made = made
    return result


def from_main(ranks: Ranks, make: Callable[[], Made]) -> Made:
    """What ``make`` returns on the main rank, on every rank; collective.

    Raises:
        UserFault: on every rank, if it raised one there.
    """
    made: list[Any] = [None]
    if ranks.is_main:
        try:
            made = [make()]
        except UserFault as error:
            made = [error]
    dist.broadcast_object_list(made, src=0)
    if isinstance(made[0], UserFault):
        raise made[0]
    result: Made = made[0]
    return result


def gather(ranks: Ranks, value: Any) -> list[tuple[str, Any]]:
    """Every rank's host and ``value``, by rank; collective, on the hosts' own group."""
    group = control_group(ranks)
    pairs: list[Any] = [(socket.gethostname(), value)]
    if group is not None:
        pairs = [None] * ranks.world_size
        dist.all_gather_object(pairs, (socket.gethostname(), value), group=group)
    return pairs


def written(ranks: Ranks, write: Callable[[], None]) -> None:
    """Write files, or do nothing on a rank that has none to write; collective.

    Raises:
        TrainingFault: on every rank, if the disk of any refuses.
    """
    failure = ""
    try:
        write()
    except OSError as error:
        failure = f"{error.strerror or error} ({error.filename})" if error.filename else str(error)
    failures = [
        f"rank {rank} on {host}: {one}"
        for rank, (host, one) in enumerate(gather(ranks, failure))
        if one
    ]
    if failures:
        raise TrainingFault(
            f"The run could not be written to the disk: {'; '.join(failures)}. Checkpoints are as they "
            "were. Mend it (free disk space?) and start the same command again."
        )


def control_group(ranks: Ranks) -> dist.ProcessGroup | None:
    """A group of all ranks for notes in host memory, beside whatever the devices do; None for one rank.

    Made once: it lives as long as the process group.
    """
    global _control
    if ranks.world_size == 1:
        return None
    if _control is None:
        _control = dist.new_group(backend="gloo", timeout=_timeout)
    return _control


def neighbours(count: int) -> dist.ProcessGroup:
    """The group of ``count`` ranks, one behind the other, that this rank belongs to; collective.

    Made once: it lives as long as the process group. ``count`` divides the number of ranks.
    """
    if count not in _neighbours:
        rank = dist.get_rank()
        for first in range(0, dist.get_world_size(), count):
            group = dist.new_group(list(range(first, first + count)), timeout=_timeout)
            if first <= rank < first + count:
                _neighbours[count] = group
    return _neighbours[count]


def check_equal(name: str, value: str, ranks: Ranks) -> None:
    """Raise on every rank if ``value`` is not the same on all of them."""
    values: list[Any] = [None] * ranks.world_size
    dist.all_gather_object(values, value)
    others = [rank for rank, other in enumerate(values) if other != values[0]]
    if others:
        raise RuntimeError(
            f"{name} differs between ranks: rank {others[0]} has {values[others[0]][:12]}, rank 0 "
            f"{values[0][:12]}. Every host must see the same data files, code and configuration."
        )


def shutdown() -> None:
    """Leave the process group, if one was made."""
    global _control
    _control = None
    _neighbours.clear()
    if dist.is_initialized():
        dist.destroy_process_group()
