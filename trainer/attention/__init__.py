"""Attention inside packed samples only, as one registered Hugging Face attention function.

A packed micro-batch is one row of concatenated samples (:class:`Segments`). No [T, T] mask is ever built.
"""

from trainer.attention.interface import (
    NAME,
    generation_attention,
    segment_attention,
    window_faults,
)
from trainer.attention.segments import Segments

__all__ = ["NAME", "Segments", "generation_attention", "segment_attention", "window_faults"]
