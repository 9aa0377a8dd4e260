"""Sequence parallelism by DeepSpeed Ulysses (arXiv 2309.14509).

The ranks of a group hold the same micro-batch, each a slice of its positions
(``data_modules.slicing``). All of a transformer but attention works position by position; around attention
an all-to-all swaps slices of positions with all heads for all positions with a share of the heads, and
back. Attention therefore sees whole samples, and is the same as without.

DeepSpeed is not told of the groups: its data-parallel group stays the whole world, so ZeRO partitions over
all ranks, and the gradient of a step is the sum over all ranks of what their positions lose, as ever.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.distributed as dist
from transformers import PretrainedConfig

from data_modules.faults import Fault
from trainer.faults import TrainingFault

#: Rotary frequencies of these types depend on the longest position of a forward, which slices differ in.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")
#: Beginnings of settings of state-space, linear-attention and convolution layers.
_MIXERS = ("mamba_", "ssm_", "conv_", "linear_conv_")


class LocalAttention(Protocol):
    """Attention over whole samples; tensors are [b, T, heads, d]."""

    def __call__(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, **settings: Any
    ) -> torch.Tensor: ...


class SequenceGroup:
    """The ranks that share this rank's micro-batches."""

    def __init__(self, group: dist.ProcessGroup) -> None:
        self._group = group
        self.size = dist.get_world_size(group)
        self._calls = 0

    def attend(
        self,
        local: LocalAttention,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        **settings: Any,
    ) -> torch.Tensor:
        """``local`` over all positions of the group and this rank's share of the heads; collective.

        Args:
            query, key, value: [b, T / size, heads, d], all heads of this rank's positions.
            settings: for ``local``, in terms of whole samples.

        Returns:
            [b, T / size, heads, d]
        """
        from deepspeed.sequence.layer import DistributedAttention

        self._calls += 1
        # Fewer key-value heads than ranks: every rank needs one, so each is sent to several.
        copies = self.size // math.gcd(key.shape[2], self.size)
        if copies > 1:
            key, value = key.repeat_interleave(copies, 2), value.repeat_interleave(copies, 2)
        exchanged = DistributedAttention(local, self._group, scatter_idx=2, gather_idx=1)
        result: torch.Tensor = exchanged(query, key, value, 0, **settings)
        return result

    @contextmanager
    def every_layer(self, model: Any) -> Iterator[None]:
        """A forward of ``model``, all layers of which must come by :meth:`attend`.

        Raises:
            TrainingFault: some did not: they would mix the positions of a slice alone.
        """
        before, layers = self._calls, model.config.get_text_config().num_hidden_layers
        yield
        if self._calls - before != layers:
            raise TrainingFault(
                f"{self._calls - before} of {layers} layers of {type(model).__name__} share sequences: "
                "this model does not compute all of its attention by transformers' attention interface, "
                "and cannot be trained with sequence parallelism. Set sequence_parallel_size=1."
            )


def sharing_faults(described: PretrainedConfig, size: int) -> Iterator[Fault]:
    """What keeps a model from being trained by groups of ``size`` ranks, by its ``config.json`` alone."""
    key, seen = "sequence_parallel_size", f"{size} with model type '{described.model_type}'"
    text = described.get_text_config()
    heads = getattr(text, "num_attention_heads", None)
    if not isinstance(heads, int):
        yield Fault(key, seen, "the model has no attention heads to share", f"Set {key}=1.")
        return
    if heads % size:
        fits = [str(n) for n in range(2, heads + 1) if heads % n == 0]
        remedy = f"Try {' or '.join(fits)}." if fits else f"Set {key}=1."
        rule = f"each rank takes an equal share of the model's {heads} attention heads"
        yield Fault(key, f"{size}", rule, remedy)
    kinds = set(getattr(text, "layer_types", None) or ()) - {"full_attention"}
    if kinds:
        rule = f"only full attention is shared; it also has layers of {', '.join(sorted(kinds))}"
        yield Fault(key, seen, rule, f"Set {key}=1.")
    mixers = sorted(name for name in text.to_dict() if name.startswith(_MIXERS))
    if mixers:
        rule = (
            f"layers that are no attention would mix the positions of a slice alone ({mixers[0]})"
        )
        yield Fault(key, seen, rule, f"Set {key}=1.")
    for rope in _LENGTH_DEPENDENT_ROPE:
        if rope in _rope_types(getattr(text, "rope_parameters", None)):
            rule = (
                f"rotary positions of type '{rope}' depend on the whole sequence, ranks see slices"
            )
            yield Fault(key, seen, rule, f"Set {key}=1.")


def _rope_types(parameters: Any) -> set[str]:
    """Types in ``rope_parameters``, which may be given for each kind of layer."""
    if not isinstance(parameters, dict):
        return set()
    found = {parameters.get("rope_type")} | {parameters.get("type")}
    nested = (_rope_types(one) for one in parameters.values())
    return {one for one in found if isinstance(one, str)}.union(*nested)
