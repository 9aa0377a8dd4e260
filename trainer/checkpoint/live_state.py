"""The training state inside a live engine: which stretches of it this rank holds, under any ZeRO stage.

Every trained parameter has an fp32 master weight and two Adam moments. ZeRO lays them out differently
by stage, world size and alignment; here they are stretches of the flattened parameter they belong to,
and that is all a checkpoint knows of them. This is DeepSpeed's universal checkpoint taken one step
further: what is written needs no conversion to be read by another world size or stage.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from trainer.engine import ZeroEngine

MASTER = "fp32"
MOMENTS = ("exp_avg", "exp_avg_sq")
_CHUNK = 1 << 22
_PRIME = 65_521


@dataclass(frozen=True)
class Fragment:
    """A stretch of one flattened parameter.

    Attributes:
        name: of the parameter in the trained module.
        start: first element of the stretch in the flattened parameter.
        tensors: ``fp32``, ``exp_avg``, ``exp_avg_sq`` -> live 1-D views of one length; the moments are
            missing before the first step.
    """

    name: str
    start: int
    tensors: dict[str, torch.Tensor]

    @property
    def numel(self) -> int:
        return self.tensors[MASTER].numel()


def held_fragments(engine: ZeroEngine) -> Iterator[Fragment]:
    """All stretches that this rank holds; under stage 0 every rank holds everything."""
    base = engine.base_optimizer
    names = {parameter: name for name, parameter in engine.module.named_parameters()}
    for parameter, flat, start, at, numel in _places(engine):
        state = base.state.get(flat, {})
        tensors = {MASTER: flat.detach().view(-1).narrow(0, at, numel)}
        for key in MOMENTS:
            if key in state:
                tensors[key] = state[key].view(-1).narrow(0, at, numel)
        yield Fragment(names[parameter], start, tensors)


def owned_fragments(engine: ZeroEngine, rank: int, world_size: int) -> Iterator[Fragment]:
    """The stretches that this rank writes: over all ranks, every element exactly once."""
    for fragment in held_fragments(engine):
        if engine.stage > 0:
            yield fragment
            continue
        share = -(-fragment.numel // world_size)
        start = min(rank * share, fragment.numel)
        numel = min(share, fragment.numel - start)
        if numel:
            yield Fragment(
                fragment.name,
                start,
                {key: one.narrow(0, start, numel) for key, one in fragment.tensors.items()},
            )


def prepare_moments(engine: ZeroEngine) -> None:
    """Give every master weight its moments, as Adam does in its first step."""
    base = engine.base_optimizer
    for flat in {id(flat): flat for _, flat, *_ in _places(engine)}.values():
        state = base.state[flat]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32, device=flat.device)
            for key in MOMENTS:
                state[key] = torch.zeros_like(flat, memory_format=torch.preserve_format)


def adam_step(engine: ZeroEngine) -> float:
    """Adam's count of updates; skipped steps are none."""
    steps = {float(state["step"]) for state in engine.base_optimizer.state.values() if state}
    assert len(steps) <= 1, "all parameters are updated together"
    return steps.pop() if steps else 0.0


def set_adam_step(engine: ZeroEngine, step: float) -> None:
    """Set Adam's count of updates."""
    for state in engine.base_optimizer.state.values():
        state["step"].fill_(step)


@torch.no_grad()
def refresh_weights(engine: ZeroEngine) -> None:
    """Make the weights that the model computes with from the masters; collective."""
    zero = engine.optimizer
    if engine.stage == 0:
        return
    if engine.stage < 3:
        zero.update_lp_params()
        return
    zero.checkpoint_event_prologue()
    for number, master in enumerate(zero.fp32_partitioned_groups_flat):
        if master.numel():
            zero.fp16_partitioned_groups_flat[number].data.copy_(master.data)
            zero._unflatten_partitioned_parameters(number)
    zero.checkpoint_event_epilogue()  # gathers the small parameters that stay whole


_Place = tuple[torch.nn.Parameter, torch.Tensor, int, int, int]


def _places(engine: ZeroEngine) -> Iterator[_Place]:
    """Of every stretch held here: parameter, its flat fp32 tensor, start in the parameter, place in
    the flat tensor, length."""
    if engine.stage == 0:
        for group in engine.optimizer.param_groups:
            for parameter in group["params"]:
                yield parameter, parameter, 0, 0, parameter.numel()
    elif engine.stage < 3:
        yield from _flat_places(engine.optimizer)
    else:
        yield from _partitioned_places(engine.optimizer)


def _flat_places(zero: Any) -> Iterator[_Place]:
    """Stages 1 and 2: a group's parameters one behind the other, cut into equal parts."""
    # DeepSpeed's two optimizers of these stages name the same things differently.
    if hasattr(zero, "bf16_groups"):
        groups, masters = zero.bf16_groups, zero.fp32_groups_flat_partition
    else:
        groups, masters = zero.bit16_groups, zero.single_partition_of_fp32_groups
    for group, master in zip(groups, masters, strict=True):
        for parameter in group:
            found = parameter._hp_mapping
            if found is not None:
                whole, part = found.lp_fragment_address, found.hp_fragment_address
                yield parameter, master, whole.start, part.start, part.numel


def _partitioned_places(zero: Any) -> Iterator[_Place]:
    """Stage 3: every parameter cut into equal parts."""
    rank = dist.get_rank()
    for group, master in zip(zero.fp16_groups, zero.fp32_partitioned_groups_flat, strict=True):
        for parameter in group:
            _, at, share = zero.grad_position[zero.get_param_id(parameter)]
            start = rank * share
            numel = min(share, parameter.ds_numel - start)  # the last ranks hold padding
            if numel > 0:
                yield parameter, master, start, at, numel


@torch.no_grad()
def frozen_checksum(engine: ZeroEngine) -> int:
    """A checksum of all weights that are not trained, the same under any stage and world size.

    They are no part of a checkpoint: it tells whether a later run has the same ones. Collective.
    """
    total = torch.zeros((), dtype=torch.int64, device=engine.device)
    rank, world_size = dist.get_rank(), dist.get_world_size()
    weights: list[Any] = list(engine.module.parameters())
    for number, parameter in enumerate(weights):
        if parameter.requires_grad:
            continue
        if engine.stage == 3:
            values, size = parameter.ds_tensor.detach().view(-1), parameter.ds_numel
            start = rank * values.numel()
            values = values[: max(0, size - start)]
        elif rank == 0:
            values, start = parameter.detach().view(-1), 0
        else:
            continue
        bits = values.view(torch.int32 if values.element_size() == 4 else torch.int16)
        for at in range(0, len(bits), _CHUNK):
            part = bits[at : at + _CHUNK].to(engine.device, torch.int64)
            place = torch.arange(start + at, start + at + len(part), device=engine.device)
            total += (part * (1 + (place + number) % _PRIME)).sum()
    if world_size > 1:
        dist.all_reduce(total)
    return int(total)
