"""Models and passes made up by hand, so that bytes can be counted on paper."""

from __future__ import annotations

from typing import Any

from trainer.estimate.setup import Setup
from trainer.estimate.shape import Shape, Weight
from trainer.estimate.trace import Arrival, Pass, Visit

#: Parts of a ledger that DeepSpeed calls model states.
STATES = ("weights", "masters", "gradients", "moments")


def made_shape(numel: int = 1_000_000, count: int = 8, frozen: int = 0) -> Shape:
    """``count`` equal matrices in a row, of which the first ``frozen`` are not trained."""
    weights = tuple(Weight(f"w{at}", numel, at >= frozen, True) for at in range(count))
    return Shape(weights, layers=count, width=1000, attended=1000)


def made_setup(**changes: Any) -> Setup:
    """Two ranks, two micro-steps; buckets smaller than a weight."""
    values: dict[str, Any] = {
        "stage": 2,
        "ranks": 2,
        "parts": 1,
        "copy_parts": 1,
        "bytes_per_weight": 2,
        "offload_optimizer": False,
        "offload_parameters": False,
        "reduce_bucket": 10,
        "prefetch_bucket": 10,
        "overlap": False,
        "multi_rank_reduce": True,
        "max_live": 10**9,
        "max_reuse": 0,
        "persistence": 0,
        "micro_batch": 1,
        "length": 16,
        "packing": True,
        "micro_steps": 2,
        "checkpointing": False,
        "keeps_checkpoints": False,
    }
    return Setup(**{**values, **changes})


def made_pass(shape: Shape, activations: int = 0, bytes_per_weight: int = 2) -> Pass:
    """Gradients arrive in reverse order; nothing but activations and the gradient itself is alive."""
    trained = [at for at, one in enumerate(shape.weights) if one.trained]
    count = len(shape.weights)
    arrivals = tuple(
        Arrival(at, activations + bytes_per_weight * shape.numels[at], activations)
        for at in reversed(trained)
    )
    forward = [Visit((at,), True, 0) for at in range(count)]
    backward = [
        Visit((at,), False, sum(other > at for other in trained)) for at in reversed(range(count))
    ]
    return Pass(activations, activations, arrivals, activations, (*forward, *backward))
