"""Causal attention within segments, by the fastest kernel that computes the call at hand.

All take query [b, heads, T, d] and key and value [b, kv_heads, T, d], and return [b, T, heads, d].

- :func:`flash`: flash-attn's variable-length kernel, where that package is installed;
- :func:`varlen`: PyTorch's own;
- :func:`by_segment`: PyTorch's scaled dot product attention, sample by sample: on CPUs, in fp32, for
  rows that are not packed, and wherever the two kernels above have a limit.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F

from trainer.attention.segments import Segments

Backend = Callable[
    [torch.Tensor, torch.Tensor, torch.Tensor, Segments | None, float, float | None], torch.Tensor
]

#: Both variable-length kernels compute these alone, on heads of up to so many numbers.
_HALF = (torch.bfloat16, torch.float16)
_WIDEST_HEAD = 256
#: Compute capability that they begin at (Ampere).
_LEAST_CAPABILITY = (8, 0)


def choose(query: torch.Tensor, segments: Segments | None, dropout: float) -> Backend:
    """The backend of one call."""
    if segments is None:
        return by_segment
    return for_packed(query.device, query.dtype, query.shape[-1], dropout)


def for_packed(
    device: torch.device, dtype: torch.dtype, width: int, dropout: float = 0.0
) -> Backend:
    """The backend of packed rows.

    Args:
        width: numbers of a head.
    """
    if device.type != "cuda" or dtype not in _HALF or width > _WIDEST_HEAD:
        return by_segment
    if _capability(device) < _LEAST_CAPABILITY:
        return by_segment
    if flash_is_installed():
        return flash
    # no dropout in it, and rows of whole 16 bytes
    return varlen if not dropout and width % 8 == 0 else by_segment


@cache
def flash_is_installed() -> bool:
    """Whether the package flash-attn is there."""
    return importlib.util.find_spec("flash_attn") is not None


@cache
def _capability(device: torch.device) -> tuple[int, int]:
    return torch.cuda.get_device_capability(device)


def flash(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments | None,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """flash-attn's variable-length kernel (arXiv 2307.08691)."""
    from flash_attn import flash_attn_varlen_func  # GPU-only extra

    assert segments is not None
    out: torch.Tensor = flash_attn_varlen_func(
        *(_tokens(one) for one in (query, key, value)),
        cu_seqlens_q=segments.bounds,
        cu_seqlens_k=segments.bounds,
        max_seqlen_q=segments.longest,
        max_seqlen_k=segments.longest,
        dropout_p=dropout,
        softmax_scale=scaling,
        causal=True,
        deterministic=torch.are_deterministic_algorithms_enabled(),
    )
    return out.unsqueeze(0)


def varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments | None,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """PyTorch's variable-length kernel."""
    # imports torch.compile, a second that runs without a GPU need not wait
    from torch.nn.attention.varlen import varlen_attn

    assert segments is not None
    assert not dropout
    out = varlen_attn(
        _tokens(query),
        _tokens(key),
        _tokens(value),
        segments.bounds,
        segments.bounds,
        segments.longest,
        segments.longest,
        scale=scaling,
        window_size=(-1, 0),  # how it is told of causal attention
        enable_gqa=key.shape[1] != query.shape[1],
    )
    assert isinstance(out, torch.Tensor)
    return out.unsqueeze(0)


def by_segment(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    segments: Segments | None,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """Scaled dot product attention, one call per segment; rows that are not packed in one call."""
    groups = query.shape[1] // key.shape[1]
    shares_heads = groups > 1
    if shares_heads and query.is_cuda:
        # there the kernel for fp32 shares no heads, and what PyTorch takes instead builds [T, T] scores
        key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
        shares_heads = False
    lengths = [query.shape[2]] if segments is None else list(segments.lengths)
    pieces = [
        F.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=shares_heads
        ).transpose(1, 2)
        for q, k, v in zip(
            query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True
        )
    ]
    # kernels give [b, n, heads, d] in memory, so neither of these moves more than it must
    return pieces[0].contiguous() if len(pieces) == 1 else torch.cat(pieces, dim=1)


def _tokens(heads: torch.Tensor) -> torch.Tensor:
    """[1, heads, T, d] as [T, heads, d]."""
    return heads[0].transpose(0, 1)
