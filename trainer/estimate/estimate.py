"""The estimate of a configuration: memory, communication and time, and settings that would fit better."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from data_modules.faults import ConfigFault, Fault, UserFault
from trainer.config.schema import AdaptationConfig, Config, Precision
from trainer.estimate.duration import Duration, duration
from trainer.estimate.hardware import Cluster
from trainer.estimate.ledger import Ledger
from trainer.estimate.replay import Replayed, replay
from trainer.estimate.setup import Setup, setup_of
from trainer.estimate.shape import Shape, described, meta_model, shape_of
from trainer.estimate.trace import Pass, trace
from trainer.estimate.volume import Volume, volume
from trainer.loss import MultiTaskLM


@dataclass(frozen=True)
class Workload:
    """What a step is made of.

    Attributes:
        rows: of a step.
        tokens: of a step, on all ranks.
        sample: tokens of a sample, in the mean.
        planned: both are of the plan; else all samples are taken to be as long as they may be.
    """

    rows: int
    tokens: float
    sample: float
    planned: bool

    @classmethod
    def full(cls, config: Config) -> Workload:
        """Every sample as long as it may be."""
        length = config.data.max_seq_len
        rows = config.global_batch_size
        return cls(rows, float(rows * length), float(length), planned=False)

    def micro_steps(self, setup: Setup) -> int:
        """Micro-steps of a step, where packing fills them."""
        at_once = setup.groups * setup.micro_batch
        if not setup.packing:
            return max(1, self.rows // at_once)
        return max(1, -(-int(self.tokens) // (at_once * setup.length)))


class Untraceable(ConfigFault):
    """A model does not run without values, so its activations cannot be counted."""


class Traced:
    """A model's passes, each traced once.

    Args:
        fused: one attention kernel for all segments, as flash-attn on a GPU.
    """

    def __init__(self, config: Config, init_from: str | None, fused: bool) -> None:
        self._description = described(config, init_from)
        self._adaptation: AdaptationConfig = config.adaptation
        self._dtype = torch.bfloat16 if config.precision is Precision.bf16 else torch.float32
        self._fused, self._model = fused, config.model
        self._passes: dict[tuple[bool, int, int, int, bool], Pass] = {}

    @cached_property
    def shape(self) -> Shape:
        """The model's numbers."""
        return shape_of(self._module(False))

    def _module(self, checkpointing: bool) -> MultiTaskLM:
        settings = self._adaptation, checkpointing, self._dtype, self._fused
        try:
            return meta_model(self._model, self._description, *settings)
        except UserFault:
            raise
        except (
            Exception
        ) as error:  # any: transformers' classes check their settings each in its way
            seen = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            raise Untraceable(Fault("model", seen, "it must be built to be estimated")) from error

    def of(self, setup: Setup) -> Pass:
        """The pass of a micro-step in which every position is supervised that can be."""
        rows, positions = setup.micro_batch, setup.positions
        key = (setup.checkpointing, rows, positions, setup.parts, setup.packing)
        if key not in self._passes:
            # a slice's last position predicts the first of the next
            supervised = positions - (rows if setup.parts == 1 else 0)
            shape = (1, positions, rows) if setup.packing else (rows, positions // rows, 0)
            self._passes[key] = self._trace(setup.checkpointing, shape, supervised)
        return self._passes[key]

    def _trace(self, checkpointing: bool, shape: tuple[int, int, int], supervised: int) -> Pass:
        module = self._module(checkpointing)
        try:
            return trace(module, *shape, supervised)
        except Exception as error:  # any: code of a model may look at values, and there are none
            seen = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"
            rule = "its forward and backward must run on the meta device to be estimated"
            raise Untraceable(Fault("model", seen, rule)) from error

    def about(self, setup: Setup) -> Pass:
        """The same from the passes of one and two rows: bytes grow with the rows all but evenly."""
        one, two = (self.of(replace(setup, micro_batch=rows)) for rows in (1, 2))
        return _extended(one, two, setup.micro_batch)


def _extended(one: Pass, two: Pass, rows: int) -> Pass:
    def at(low: int, high: int) -> int:
        return low + (high - low) * (rows - 1)

    arrivals = tuple(
        replace(low, peak=at(low.peak, high.peak), live=at(low.live, high.live))
        for low, high in zip(one.arrivals, two.arrivals, strict=True)
    )
    return replace(
        one,
        kept=at(one.kept, two.kept),
        forward_peak=at(one.forward_peak, two.forward_peak),
        tail=at(one.tail, two.tail),
        arrivals=arrivals,
    )


@dataclass(frozen=True)
class Estimate:
    """What a configuration needs.

    Attributes:
        time: None without a described cluster.
    """

    shape: Shape
    setup: Setup
    workload: Workload
    memory: Replayed
    volume: Volume
    cluster: Cluster | None
    time: Duration | None

    @property
    def device(self) -> Ledger:
        """The ledger of the rank that needs most on its device."""
        return self.memory.worst_device

    @property
    def fits(self) -> bool:
        """Whether GPUs and hosts hold it; True where their size is not known."""
        return self.fits_device and self.fits_host

    @property
    def fits_device(self) -> bool:
        return self.cluster is None or self.device.device_peak.total <= self.cluster.memory

    @property
    def fits_host(self) -> bool:
        if self.cluster is None or self.cluster.host_memory is None:
            return True
        return self.host_bytes <= self.cluster.host_memory

    @property
    def host_bytes(self) -> int:
        """Bytes that a node's ranks hold in its memory at most."""
        per_node = 1 if self.cluster is None else self.cluster.gpus_per_node
        return per_node * max(one.host_peak.total for one in self.memory.ledgers)


def estimate(
    config: Config,
    model: Traced,
    workload: Workload,
    ranks: int,
    cluster: Cluster | None,
) -> Estimate:
    """The estimate of a configuration on so many ranks."""
    setup = setup_of(config, ranks)
    setup = replace(setup, micro_steps=workload.micro_steps(setup))
    return estimate_setup(config, model.shape, setup, model.of(setup), workload, cluster)


def estimate_setup(
    config: Config,
    shape: Shape,
    setup: Setup,
    traced: Pass,
    workload: Workload,
    cluster: Cluster | None,
) -> Estimate:
    """The estimate of one way to train."""
    memory = replay(shape, setup, traced)
    sent = volume(shape, setup, traced)
    time = None
    if cluster is not None:
        time = duration(
            shape, setup, sent, cluster, config.estimate, workload.tokens, workload.sample
        )
    return Estimate(shape, setup, workload, memory, sent, cluster, time)
