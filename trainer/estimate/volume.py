"""How many bytes a rank sends in an optimizer step, by the collectives that DeepSpeed 0.19.8 calls.

A ring of N ranks sends (N - 1) / N of a buffer for an all-gather or a reduce-scatter, and twice that for an
all-reduce; a rank receives as much. Stages 1 and 2 all-reduce their buckets, unless
``zero.extra.zero_optimization.use_multi_rank_bucket_allreduce=false`` reduces each part to its owner alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from trainer.estimate.gathering import gathered_in_pass
from trainer.estimate.setup import Setup
from trainer.estimate.shape import Shape
from trainer.estimate.trace import Pass


@dataclass(frozen=True)
class Volume:
    """Bytes that a rank sends to other ranks in a step, and moves to and from its host.

    Attributes:
        gradients: reduced.
        weights: gathered.
        activations: swapped around attention by ranks that share sequences.
        hideable: of both, what is sent while the model computes.
        host: between GPU and host, because of offload.
    """

    gradients: float
    weights: float
    hideable: float
    host: float
    activations: float = 0.0

    @property
    def sent(self) -> float:
        return self.gradients + self.weights + self.activations


def volume(shape: Shape, setup: Setup, traced: Pass) -> Volume:
    """The volume of one optimizer step."""
    return replace(_of_states(shape, setup, traced), activations=_swapped(shape, setup))


def _swapped(shape: Shape, setup: Setup) -> float:
    """Query, key, value and output of every layer, there and back; keys and values as if of all heads."""
    times = 3 if setup.checkpointing else 2
    one = setup.bytes_per_weight * setup.positions * shape.width
    elsewhere = (setup.parts - 1) / setup.parts
    return 4 * shape.layers * one * elsewhere * times * setup.micro_steps


def _of_states(shape: Shape, setup: Setup, traced: Pass) -> Volume:
    ring = (setup.ranks - 1) / setup.ranks
    size, trained = setup.bytes_per_weight, shape.trained
    share = trained / setup.ranks
    # gradients go down in fp32 once, new weights come back
    host = share * (4 + size) if setup.offload_optimizer else 0.0
    if setup.stage == 3:
        per_pass = gathered_in_pass(traced.visits, shape.numels, setup) if setup.ranks > 1 else 0
        gradients = ring * size * trained * setup.micro_steps
        weights = ring * size * per_pass * setup.micro_steps
        if (
            setup.offload_optimizer
        ):  # accumulated on the host: there and back in each further micro-step
            host += share * 4 * 2 * (setup.micro_steps - 1)
        if setup.offload_parameters:
            host += size * per_pass / setup.ranks * setup.micro_steps
        return Volume(gradients, weights, gradients + weights, host)
    if setup.stage == 0:
        return Volume(2 * ring * 4 * trained, 0.0, 0.0, host)
    factor = 2 if setup.multi_rank_reduce or (setup.stage == 1 and size == 2) else 1
    rounds = setup.micro_steps if setup.stage == 2 else 1
    gradients = factor * ring * size * trained * rounds
    hideable = gradients if setup.stage == 2 and setup.overlap else 0.0
    return Volume(gradients, ring * size * trained, hideable, host)
