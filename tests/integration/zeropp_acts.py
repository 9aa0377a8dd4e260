"""For tests of ZeRO++ without a GPU: every weight is partitioned, and a stand-in computes for the kernels.

Acts of :mod:`rank_processes`; see :mod:`acts`.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import torch


def all_partitioned() -> None:
    """ZeRO-3 keeps small parameters whole, and here all are small: it keeps none."""
    import trainer.engine

    made = trainer.engine.deepspeed_config

    def built(config: Any, world_size: int) -> dict[str, Any]:
        settings = made(config, world_size)
        settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        return settings

    trainer.engine.deepspeed_config = built


class Kernels:
    """What DeepSpeed's quantizer extension does, in plain PyTorch, for tensors of whole groups.

    Its C++ binding takes the address of whatever it is given for one of fp16; here that is held.
    """

    Symmetric = "symmetric"

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def quantize(
        self, values: torch.Tensor, groups: int, bits: int, kind: str
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert values.dtype == torch.float16, values.dtype
        assert kind == self.Symmetric
        self.calls[f"quantize{bits}"] += 1
        most = 2 ** (bits - 1) - 1
        rows = values.reshape(groups, -1).float()
        scales = (rows.abs().amax(1, keepdim=True) / most).clamp_min(1e-30)
        # scales are flat: gloo, other than NCCL, compares shapes and not only sizes
        return (rows / scales).round().to(torch.int8).view(values.shape), scales.flatten()

    def dequantize(
        self, values: torch.Tensor, scales: torch.Tensor, groups: int, bits: int, kind: str
    ) -> torch.Tensor:
        assert values.dtype == torch.int8
        assert kind == self.Symmetric
        assert values.numel() % groups == 0
        self.calls[f"dequantize{bits}"] += 1
        rows = values.reshape(groups, -1) * scales.reshape(groups, 1)
        return rows.to(torch.float16).view(values.shape)

    def swizzle_quant(
        self,
        values: torch.Tensor,
        groups: int,
        bits: int,
        kind: str,
        pipeline: int,
        nodes: int,
        devices: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Parts of ranks by their place in a host first, then by host."""
        assert pipeline == 1
        parts = values.reshape(nodes, devices, -1).transpose(0, 1)
        return self.quantize(parts.reshape(-1), groups, bits, kind)

    def quantized_reduction(
        self,
        values: torch.Tensor,
        scales: torch.Tensor,
        groups: int,
        groups_after: int,
        bits: int,
        kind: str,
        devices: int,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean over the ranks of a host."""
        whole = self.dequantize(values, scales, groups, bits, kind).float()
        mean = whole.reshape(devices, -1).mean(0).to(torch.float16)
        return self.quantize(mean, groups_after, bits, kind)


def stand_in(path: str) -> None:
    """Let :class:`Kernels` compute, and write down what was called, by rank, when it ends."""
    import deepspeed.ops.op_builder
    import deepspeed.runtime.comm.coalesced_collectives as collectives

    import trainer.run
    import trainer.train

    kernels = Kernels()

    class Builder:
        def load(self) -> Kernels:
            return kernels

    deepspeed.ops.op_builder.QuantizerBuilder = Builder
    collectives.op_builder.QuantizerBuilder = Builder
    trainer.train.validate_device = lambda *_: None
    all_phases = trainer.run.Run.all_phases

    def noted(self: Any) -> Any:
        result = all_phases(self)
        rank = os.environ["RANK"]
        Path(f"{path}.rank{rank}").write_text(json.dumps(kernels.calls), encoding="utf-8")
        return result

    trainer.run.Run.all_phases = noted  # type: ignore[method-assign]
