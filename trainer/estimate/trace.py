"""One forward and backward pass on meta tensors: what is alive when, without a byte of it.

The model's own code runs under PyTorch's dispatcher, so activations, what autograd keeps of them,
activation checkpointing, adapters and the chunked loss are counted as they are, not by a formula for one
architecture. Two things are not as on a device: attention stands for a kernel that keeps its inputs, its
output and one number per head and token (flash, memory-efficient, and PyTorch's CPU kernel do), and a
weight's gradient is taken away as soon as it is there, as ZeRO does it; :mod:`trainer.estimate.replay`
says what ZeRO does with it.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AttentionInterface

from trainer.attention import Segments, segment_attention

#: Attention implementations of a traced model: one kernel for all segments, or one call for each.
FUSED, BY_SEGMENT = "polyphase_estimated_kernel", "polyphase_estimated_segments"


@dataclass(frozen=True)
class Arrival:
    """A weight's gradient is there.

    Attributes:
        weight: its index in the model's parameters.
        peak: most bytes alive since the arrival before, this gradient among them.
        live: bytes alive now, this gradient not among them.
    """

    weight: int
    peak: int
    live: int


@dataclass(frozen=True)
class Visit:
    """A module with weights of its own runs.

    Attributes:
        weights: indices of its weights.
        forward: whether it runs forward; activation checkpointing does so during the backward, too.
        arrivals: gradients that had arrived before.
    """

    weights: tuple[int, ...]
    forward: bool
    arrivals: int


@dataclass(frozen=True)
class Pass:
    """One micro-step of one rank; weights are not counted, their gradients only as they arrive.

    Attributes:
        kept: bytes that autograd keeps of the model's body until the backward.
        forward_peak: most bytes alive in the forward, loss among it.
        tail: most bytes alive behind the last arrival.
        visits: modules in the order in which they run.
    """

    kept: int
    forward_peak: int
    arrivals: tuple[Arrival, ...]
    tail: int
    visits: tuple[Visit, ...]

    @property
    def peak(self) -> int:
        """Most bytes alive at any time."""
        return max(self.forward_peak, self.tail, *(one.peak for one in self.arrivals))


class _Kernel(torch.autograd.Function):
    """Attention that keeps query, key, value, output and the logarithm of each row's sum."""

    @staticmethod
    def forward(ctx: Any, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        out = torch.empty_like(q)
        row_sums = q.new_empty(q.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(q, k, v, out, row_sums)
        return out

    @staticmethod
    def backward(ctx: Any, *_: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(one) for one in ctx.saved_tensors[:3])


class _ShapesOnly(TorchFunctionMode):
    """Scaled dot product attention as a kernel that never holds the scores."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return _Kernel.apply(*args[:3])
        return func(*args, **(kwargs or {}))


def _fused(
    _module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *_: Any,
    **__: Any,
) -> tuple[torch.Tensor, None]:
    """What variable-length kernels keep: no pieces of segments."""
    out: torch.Tensor = _Kernel.apply(query, key, value)
    return out.transpose(1, 2), None


def _by_segment(*args: Any, **more: Any) -> tuple[torch.Tensor, None]:
    """What training does without a GPU."""
    with _ShapesOnly():
        return segment_attention(*args, **more)


AttentionInterface.register(FUSED, _fused)
AttentionInterface.register(BY_SEGMENT, _by_segment)


class _Alive(TorchDispatchMode):
    """Counts the bytes of all storages that operations make, until the last reference to each is gone."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0
        self.peak = 0
        self._seen: set[int] = set()

    def ignore(self, tensor: torch.Tensor) -> None:
        """Leave out a tensor that was there before."""
        self._seen.add(tensor.untyped_storage()._cdata)

    def take_peak(self) -> int:
        """The most since the last time."""
        peak, self.peak = self.peak, self.now
        return peak

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for one in tree_iter(result):
            if isinstance(one, torch.Tensor):
                self._count(one)
        return result

    def _count(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        name = storage._cdata
        if name in self._seen:
            return
        self._seen.add(name)
        size = storage.nbytes()
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._gone, name, size)

    def _gone(self, name: int, size: int) -> None:
        self._seen.discard(name)
        self.now -= size


def trace(model: nn.Module, rows: int, length: int, segments: int, supervised: int) -> Pass:
    """Run one micro-step of a model on the meta device.

    Args:
        model: a :class:`trainer.loss.MultiTaskLM` with one of the attentions above.
        rows, length: shape of the micro-batch.
        segments: samples in its one row; 0 if it is not packed.
        supervised: positions that predict a token which is trained on.
    """
    model.train()
    parameters = list(model.parameters())
    numbers = {id(one): number for number, one in enumerate(parameters)}
    alive = _Alive()
    for tensor in (*parameters, *model.buffers()):
        alive.ignore(tensor)
    arrivals: list[Arrival] = []
    visits: list[Visit] = []

    def arrived(number: int, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        size = parameter.grad.untyped_storage().nbytes()
        arrivals.append(Arrival(number, alive.take_peak(), alive.now - size))
        parameter.grad = None
        alive.take_peak()

    def visited(weights: tuple[int, ...], forward: bool, *_: Any) -> None:
        visits.append(Visit(weights, forward, len(arrivals)))

    hooks: list[Any] = [
        one.register_post_accumulate_grad_hook(partial(arrived, numbers[id(one)]))
        for one in parameters
        if one.requires_grad
    ]
    for module in model.modules():
        own = tuple(numbers[id(one)] for one in module.parameters(recurse=False))
        if own:
            hooks.append(module.register_forward_pre_hook(partial(visited, own, True)))
            hooks.append(_before_backward(module, partial(visited, own, False)))
    try:
        with alive:
            hidden = _body(model, rows, length, segments)
            kept = alive.now
            loss = _loss(model, hidden, supervised)
            del hidden
            forward_peak = alive.take_peak()
            loss.backward()
            del loss
    finally:
        for hook in hooks:
            hook.remove()
    return Pass(kept, forward_peak, tuple(arrivals), alive.take_peak(), tuple(visits))


def _before_backward(module: nn.Module, note: Callable[[], None]) -> Any:
    """Call ``note`` when the gradient of a module's output is there."""

    def watch(_: nn.Module, __: Any, output: Any) -> None:
        tensors = [one for one in tree_iter(output) if isinstance(one, torch.Tensor)]
        first = next((one for one in tensors if one.requires_grad), None)
        if first is not None:
            first.register_hook(lambda _: note())

    return module.register_forward_hook(watch)


def _body(model: Any, rows: int, length: int, segments: int) -> torch.Tensor:
    """Hidden states of a micro-batch, as ``MultiTaskLM.forward`` makes them."""
    cut = None
    if segments:
        # a packed row holds several samples; only one alone would need no laying together
        cut = Segments.of(torch.linspace(0, length, max(2, segments) + 1).to(torch.int32))
    ids = torch.zeros(rows, length, dtype=torch.long, device="meta")
    hidden: torch.Tensor = model.causal_model.base_model(
        input_ids=ids, position_ids=ids, use_cache=False, segments=cut
    ).last_hidden_state
    return hidden


def _loss(model: Any, hidden: torch.Tensor, supervised: int) -> torch.Tensor:
    """The chunked loss at the supervised positions."""
    keep = torch.zeros(supervised, dtype=torch.long, device="meta")
    at = hidden[:, :-1].reshape(-1, hidden.shape[-1])[keep]
    weights = torch.zeros(supervised, device="meta")
    loss: torch.Tensor = model.causal_model.lm_head(at, keep, weights, keep, model.tasks)[0]
    return loss
