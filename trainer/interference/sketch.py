"""A count-sketch: a gradient in some thousand numbers that keep inner products.

``sketch[bucket(i)] += sign(i) * value[i]`` keeps the inner product of two vectors in expectation; for unit
vectors its standard deviation is at most about ``sqrt(2 / buckets)``, and ``1 / sqrt(buckets)`` where they
are nearly orthogonal (Charikar, Chen and Farach-Colton 2002; Weinberger et al., arXiv 0902.2206). The sketch
is linear, so that sketches of micro-batches and ranks add up.

Here ``bucket(i) = (start + i) mod p`` with p prime: adding up is a plain sum over the rows of a reshaped
tensor, deterministic and as fast as memory, and neighbours in a column of a weight matrix still spread over
all buckets. Chance lies in the signs, which alone make the estimate unbiased. They are read from one table
that is drawn once, from a place that depends on the parameter's name.
"""

from __future__ import annotations

import numpy as np
import torch

from data_modules.seeding import generator

# A prime, unlike any bucket count: entries that share a sign do not share a bucket.
_SIGNS = 2**22 + 15


class CountSketch:
    """Sketches the values of named tensors; the same on every device and rank.

    Args:
        size: numbers to sketch into; the largest prime up to it is used.
        seed: of signs and places.
    """

    def __init__(self, size: int, seed: int, device: torch.device) -> None:
        self.buckets = largest_prime(size)
        self._seed, self._device = seed, device
        signs = generator(seed, "sketch", "signs").integers(0, 2, _SIGNS, dtype=np.int8)
        self._signs = torch.from_numpy(signs).to(device, torch.float32).mul_(2).sub_(1)
        self._places: dict[str, tuple[int, int]] = {}

    def zeros(self, *shape: int) -> torch.Tensor:
        """Empty sketches: float64 [*shape, buckets]."""
        return torch.zeros(*shape, self.buckets, dtype=torch.float64, device=self._device)

    def add(self, sketch: torch.Tensor, name: str, values: torch.Tensor) -> None:
        """Add the values of a tensor of any shape to a sketch, in place.

        Args:
            sketch: float64 [buckets].
            name: decides about signs and buckets; equal names, equal sketches.
        """
        bucket, place = self._start(name)
        flat = values.detach().reshape(-1)
        done = 0
        while done < len(flat):
            take = min(len(flat) - done, _SIGNS - place)
            front = (bucket + done) % self.buckets
            rows = -(-(front + take) // self.buckets)
            # float32: gradients in bf16 must not be summed in it
            padded = torch.zeros(rows * self.buckets, device=self._device)
            torch.mul(
                flat[done : done + take],
                self._signs[place : place + take],
                out=padded[front : front + take],
            )
            sketch += padded.view(rows, self.buckets).sum(0)
            done, place = done + take, 0

    def _start(self, name: str) -> tuple[int, int]:
        """First bucket, and first place in the table of signs."""
        if name not in self._places:
            draw = generator(self._seed, "sketch", "start", name)
            self._places[name] = (int(draw.integers(self.buckets)), int(draw.integers(_SIGNS)))
        return self._places[name]


def largest_prime(limit: int) -> int:
    """The largest prime up to ``limit``, which is at least 2."""
    return next(
        number
        for number in range(limit, 1, -1)
        if all(number % divisor for divisor in range(2, int(number**0.5) + 1))
    )
