"""How long an optimizer step takes on a described cluster: a formula, with its assumptions named.

seconds = compute + what of the communication is not hidden + update + moving between GPU and host

compute        operations of a rank / (peak of the GPU x ``estimate.mfu``)
operations     as ``trainer.estimate.operations`` counts them, with the forward that activation
               checkpointing repeats; all tokens are taken to reach the output projection, though only
               supervised ones do
communication  bytes sent / (slowest link of the ring x ``estimate.link_share``); of what is sent while the
               model computes, as much is hidden as goes by in ``estimate.overlap`` of the compute time
update         32 bytes of memory traffic per weight of the rank's share (weight, gradient and moments read;
               weight, moments and the new bf16 weight written), at the memory's bandwidth: the host's
               if it is offloaded
"""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config.schema import EstimateConfig
from trainer.estimate.hardware import Cluster
from trainer.estimate.operations import operations_of
from trainer.estimate.setup import Setup
from trainer.estimate.shape import Shape
from trainer.estimate.volume import Volume

_UPDATE_BYTES = 32


@dataclass(frozen=True)
class Duration:
    """Seconds of a step."""

    compute: float
    communication: float
    exposed: float
    update: float
    host: float

    @property
    def seconds(self) -> float:
        return self.compute + self.exposed + self.update + self.host


def operations(shape: Shape, setup: Setup, sample: float) -> float:
    """Operations of one token.

    Args:
        sample: tokens of the sample that it attends to.
    """
    counted = operations_of(shape, again=setup.checkpointing)
    return counted.of(tokens=1, pairs=sample / 2, answers=1)


def duration(
    shape: Shape,
    setup: Setup,
    sent: Volume,
    cluster: Cluster,
    settings: EstimateConfig,
    tokens: float,
    sample: float,
) -> Duration:
    """The time of one optimizer step.

    Args:
        tokens: of the step, on all ranks.
        sample: tokens of a sample.
    """
    peak = cluster.gpu.bf16 if setup.bytes_per_weight == 2 else cluster.gpu.fp32
    compute = operations(shape, setup, sample) * tokens / setup.ranks / (peak * settings.mfu)
    ring = cluster.ring * settings.link_share
    hidden = min(sent.hideable / ring, settings.overlap * compute)
    share = shape.trained / (setup.ranks if setup.stage else 1)
    if setup.offload_optimizer:
        memory = settings.host_bandwidth_gb * 10**9 / cluster.gpus_per_node
    else:
        memory = cluster.gpu.bandwidth
    return Duration(
        compute=compute,
        communication=sent.sent / ring,
        exposed=sent.sent / ring - hidden,
        update=_UPDATE_BYTES * share / memory,
        host=sent.host / (cluster.host_link * settings.link_share),
    )
