"""Attention inside packed samples only, as one registered Hugging Face attention function.

A packed micro-batch is one row of concatenated samples; ``cu_seqlens`` says where each begins. No
[T, T] mask is ever built: on CUDA with flash-attn installed the variable-length kernel runs, elsewhere
PyTorch's own scaled dot product attention runs sample by sample.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel

from data_modules.faults import Fault
from trainer.sequence_parallel import SequenceGroup

NAME = "polyphase_segments"


def segment_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seqlens: torch.Tensor | None = None,
    sequence_group: SequenceGroup | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each segment.

    Args:
        query: [b, heads, T, d]; key and value: [b, kv_heads, T, d].
        attention_mask: always None; right padding needs none under causal attention.
        cu_seqlens: int32 [segments + 1] with b = 1; None means each row is one segment.
        sequence_group: ranks that share the rows, T being this rank's slice; segments are of the whole.
        sliding_window: how far back the model looks; models tell by this or as a module's attribute.

    Returns:
        [b, T, heads, d], and None for the attention weights.
    """
    assert attention_mask is None, "segments replace masks"
    window = sliding_window or getattr(module, "sliding_window", None)
    if window and _longest(query, cu_seqlens) > window:
        # window_faults looks for this before any rank trains
        raise ValueError(
            f"{type(module).__name__}: sliding-window attention is not supported for training; "
            f"rows may have at most its {window} tokens"
        )
    if sequence_group is None:
        return _attend(query, key, value, cu_seqlens, dropout, scaling), None

    def local(*heads: torch.Tensor, **settings: Any) -> torch.Tensor:
        query, key, value = (one.transpose(1, 2) for one in heads)
        return _attend(query, key, value, **settings)

    query, key, value = (one.transpose(1, 2) for one in (query, key, value))
    settings: dict[str, Any] = {"cu_seqlens": cu_seqlens, "dropout": dropout, "scaling": scaling}
    return sequence_group.attend(local, query, key, value, **settings), None


def _longest(query: torch.Tensor, cu_seqlens: torch.Tensor | None) -> int:
    """Tokens of the longest segment."""
    if cu_seqlens is None:
        return int(query.shape[2])
    return int(cu_seqlens.diff().max())


def window_faults(described: PretrainedConfig, max_seq_len: int) -> Iterator[Fault]:
    """A fault if rows may be longer than a model looks back, by its ``config.json`` alone."""
    text = described.get_text_config()
    window = getattr(text, "sliding_window", None)
    layers = getattr(text, "layer_types", None)
    is_used = getattr(text, "use_sliding_window", True) and (
        layers is None or "sliding_attention" in layers
    )
    if window and is_used and max_seq_len > window:
        yield Fault(
            "data.max_seq_len",
            f"{max_seq_len} with model type '{described.model_type}'",
            f"the model looks back {window} tokens; attention in windows is not supported for training",
            f"Set data.max_seq_len={window} or less, or train a model with full attention.",
        )


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seqlens: torch.Tensor | None,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """:func:`segment_attention` over whole rows."""
    if cu_seqlens is not None and _flash_attention_available(query):
        return _flash(query, key, value, cu_seqlens, dropout, scaling)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    ends = [query.shape[2]] if cu_seqlens is None else cu_seqlens.tolist()[1:]
    sizes = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    pieces = [
        F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True, scale=scaling)
        for q, k, v in zip(
            query.split(sizes, 2), key.split(sizes, 2), value.split(sizes, 2), strict=True
        )
    ]
    return torch.cat(pieces, dim=2).transpose(1, 2).contiguous()


def _flash_attention_available(query: torch.Tensor) -> bool:
    return (
        query.is_cuda
        and query.dtype in (torch.bfloat16, torch.float16)
        and importlib.util.find_spec("flash_attn") is not None
    )


def _flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    cu_seqlens: torch.Tensor,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    from flash_attn import flash_attn_varlen_func  # GPU-only extra

    longest = int((cu_seqlens[1:] - cu_seqlens[:-1]).max())
    q, k, v = (tensor[0].transpose(0, 1) for tensor in (query, key, value))  # [T, heads, d]
    out: torch.Tensor = flash_attn_varlen_func(
        q, k, v, cu_seqlens, cu_seqlens, longest, longest, dropout, scaling, causal=True
    )
    return out.unsqueeze(0)


AttentionInterface.register(NAME, segment_attention)


@contextmanager
def generation_attention(model: PreTrainedModel) -> Iterator[None]:
    """Use attention with masks and a key-value cache while generating."""
    before = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
