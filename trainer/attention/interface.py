"""The attention function that models are loaded with, and what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import AttentionInterface, PretrainedConfig, PreTrainedModel

from data_modules.faults import Fault
from trainer.attention import backends
from trainer.attention.segments import Segments
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
    segments: Segments | None = None,
    sequence_group: SequenceGroup | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each segment.

    Args:
        query: [b, heads, T, d]; key and value: [b, kv_heads, T, d].
        attention_mask: always None; right padding needs none under causal attention.
        segments: of the one row; None means each row is one segment.
        sequence_group: ranks that share the rows, T being this rank's slice; segments are of the whole.
        sliding_window: how far back the model looks; models tell by this or as a module's attribute.

    Returns:
        [b, T, heads, d], and None for the attention weights.
    """
    assert attention_mask is None, "segments replace masks"
    window = sliding_window or getattr(module, "sliding_window", None)
    if window and (query.shape[2] if segments is None else segments.longest) > window:
        # window_faults looks for this before any rank trains
        raise ValueError(
            f"{type(module).__name__}: sliding-window attention is not supported for training; "
            f"rows may have at most its {window} tokens"
        )
    if sequence_group is None:
        return _attend(query, key, value, segments, dropout, scaling), None

    def local(*heads: torch.Tensor, **settings: Any) -> torch.Tensor:
        query, key, value = (one.transpose(1, 2) for one in heads)
        return _attend(query, key, value, **settings)

    query, key, value = (one.transpose(1, 2) for one in (query, key, value))
    settings: dict[str, Any] = {"segments": segments, "dropout": dropout, "scaling": scaling}
    return sequence_group.attend(local, query, key, value, **settings), None


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
    segments: Segments | None,
    dropout: float,
    scaling: float | None,
) -> torch.Tensor:
    """:func:`segment_attention` over whole rows."""
    backend = backends.choose(query, segments, dropout)
    return backend(query, key, value, segments, dropout, scaling)


AttentionInterface.register(NAME, segment_attention)


@contextmanager
def generation_attention(model: PreTrainedModel) -> Iterator[None]:
    """Use attention with masks and a key-value cache while generating, and no compiled layers.

    Those would be compiled anew for the cache.
    """
    before = model.config._attn_implementation
    modules: list[Any] = list(model.modules())
    compiled = {one: one._compiled_call_impl for one in modules if one._compiled_call_impl}
    model.set_attn_implementation("sdpa")
    for one in compiled:
        one._compiled_call_impl = None
    try:
        yield
    finally:
        model.set_attn_implementation(before)
        for one, call in compiled.items():
            one._compiled_call_impl = call
