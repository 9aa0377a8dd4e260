"""From gradient sketches to cosines between tasks."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

#: Least self-cosine that a cosine is divided by. A gradient this noisy says little about any other: its
#: cosines stay near 0 and do not explode.
LEAST_SELF_COSINE = 0.1


@dataclass(frozen=True)
class Conflict:
    """How K tasks' gradients lie to each other.

    Attributes:
        cosine: [K][K]; the cosines of mean gradients over all rows of a task, as far as a sample of rows
            tells: measured cosines of half samples over the root of both tasks' ``self_cosine``. In
            [-1, 1], 1 on the diagonal. Negative: a step for one raises the other's loss.
        self_cosine: [K], cosine between the gradients of a task's two half samples: 1 without noise.
        norm: [K], of the gradient over both halves of the sample, noise and all.
    """

    cosine: list[list[float]]
    self_cosine: list[float]
    norm: list[float]

    @property
    def rate(self) -> float:
        """Share of the pairs of tasks with a negative cosine; 0 of no pairs."""
        pairs = list(combinations(range(len(self.norm)), 2))
        return sum(self.cosine[i][j] < 0 for i, j in pairs) / max(1, len(pairs))


def conflict_of(sketches: np.ndarray) -> Conflict:
    """Cosines, corrected for the noise of small samples (correction for attenuation, Spearman 1904).

    Args:
        sketches: float64 [K, 2, m], the gradients of each task's two half samples.
    """
    whole = sketches.mean(1)
    between_halves = (sketches[:, 0] * sketches[:, 1]).sum(-1)
    half_norms = np.sqrt(np.linalg.norm(sketches, axis=-1).prod(1))  # [K], of two halves their mean
    self_cosine = _over(between_halves, half_norms**2)
    measured = _over(whole @ whole.T, np.outer(half_norms, half_norms))
    trust = np.sqrt(np.maximum(self_cosine, LEAST_SELF_COSINE))
    cosine = np.clip(measured / np.outer(trust, trust), -1.0, 1.0)
    np.fill_diagonal(cosine, 1.0)
    return Conflict(cosine.tolist(), self_cosine.tolist(), np.linalg.norm(whole, axis=-1).tolist())


def _over(values: np.ndarray, norms: np.ndarray) -> np.ndarray:
    """Quotients; 0 where a gradient is."""
    return np.divide(values, norms, out=np.zeros_like(values), where=norms > 0)
