"""Where the samples of a packed row lie, for kernels and for the host."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from trainer.sending import sent


@dataclass(frozen=True)
class Segments:
    """Samples laid one behind the other in one row.

    Made once per forward from what the host knows: no layer asks the device for a length and waits.

    Attributes:
        bounds: int32 [samples + 1] on the device that computes, where each begins and the last ends.
        lengths: tokens of each.
    """

    bounds: torch.Tensor
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, cu_seqlens: torch.Tensor, device: torch.device | None = None) -> Segments:
        """Segments by their bounds, which should lie on the host.

        Args:
            cu_seqlens: int32 [samples + 1].
            device: of the model; None leaves the bounds where they are.
        """
        lengths = tuple(cu_seqlens.diff().tolist())
        return cls(cu_seqlens if device is None else sent(cu_seqlens, device), lengths)

    @property
    def longest(self) -> int:
        """Tokens of the longest one."""
        return max(self.lengths)
