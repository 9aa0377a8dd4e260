"""Settings that fit a described cluster with the least estimated time of a step."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from trainer.config.schema import Config
from trainer.estimate.estimate import Estimate, Traced, Workload, estimate_setup
from trainer.estimate.hardware import Cluster
from trainer.estimate.setup import Setup, setup_of

_MICRO_BATCHES = (1, 2, 4, 8, 16, 32)
#: Optimizer and parameters offloaded, by stage.
_OFFLOADS = {
    0: ((False, False),),
    1: ((False, False), (True, False)),
    2: ((False, False), (True, False)),
    3: ((False, False), (True, False), (True, True)),
}


@dataclass(frozen=True)
class Proposal:
    """The best settings found.

    Attributes:
        best: None if none fits.
        nearest: without one that fits, the one that needs least on its GPU.
        tried: settings that were looked at.
    """

    best: Estimate | None
    nearest: Estimate | None
    tried: int


def propose(config: Config, model: Traced, workload: Workload, cluster: Cluster) -> Proposal:
    """Look at all stages, with and without offload and activation checkpointing, at growing batches."""
    base = setup_of(config, cluster.ranks)
    fitting: list[Estimate] = []
    nearest: Estimate | None = None
    tried = 0
    for way in _ways(base):
        for rows in _MICRO_BATCHES:
            setup = replace(way, micro_batch=rows)
            if workload.rows % (setup.groups * (1 if setup.packing else rows)):
                break
            if rows > 1 and rows * setup.groups > workload.rows:
                break
            setup = replace(setup, micro_steps=workload.micro_steps(setup))
            tried += 1
            found = estimate_setup(
                config, model.shape, setup, model.about(setup), workload, cluster
            )
            if nearest is None or _need(found) < _need(nearest):
                nearest = found
            if not found.fits:
                break
            fitting.append(found)
    for found in sorted(fitting, key=_cost):
        # what was extended from two passes is traced as it is
        exact = estimate_setup(
            config, model.shape, found.setup, model.of(found.setup), workload, cluster
        )
        if exact.fits:
            return Proposal(exact, nearest, tried)
    return Proposal(None, nearest, tried)


def _ways(base: Setup) -> Iterator[Setup]:
    for stage, offloads in _OFFLOADS.items():
        if stage == 0 and base.bytes_per_weight == 2:
            continue  # needs fp32
        for optimizer, parameters in offloads:
            for checkpointing in (False, True):
                yield replace(
                    base,
                    stage=stage,
                    overlap=base.overlap if stage == base.stage else stage == 2,
                    prefetch_bucket=base.reduce_bucket,
                    offload_optimizer=optimizer,
                    offload_parameters=parameters,
                    checkpointing=checkpointing,
                )


def _need(found: Estimate) -> int:
    return found.device.device_peak.total


def _cost(found: Estimate) -> tuple[float, float, int]:
    """Seconds, to two digits; among equals, what leans least on communication being hidden."""
    assert found.time is not None, "a cluster is described"
    return float(f"{found.time.seconds:.2g}"), found.time.communication, _need(found)


def overrides(setup: Setup) -> list[str]:
    """The settings as a user would write them."""

    def word(offloaded: bool) -> str:
        return "cpu" if offloaded else "none"

    return [
        f"zero=zero{setup.stage}",
        f"zero.offload_optimizer={word(setup.offload_optimizer)}",
        f"zero.offload_parameters={word(setup.offload_parameters)}",
        f"micro_batch_size={setup.micro_batch}",
        f"model.activation_checkpointing={str(setup.checkpointing).lower()}",
    ]
