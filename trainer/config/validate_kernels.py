"""Rules on the kernels of a training step."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Iterator

from packaging.version import Version

from data_modules.faults import Fault
from trainer.config.schema import AdaptationKind, Compile, Config, Liger

#: Earlier ones do not know transformers 5.10's models, or compute wrong gradients.
OLDEST_LIGER = Version("0.8.2")
_COMPILE = "kernels.compile"
_OFF = "Set kernels.compile=off."


def kernel_faults(config: Config) -> Iterator[Fault]:
    """Settings that compiled layers are not right or not tried with."""
    if config.kernels.compile is Compile.off:
        return
    zero, parts = config.zero, config.sequence_parallel_size
    if zero.stage == 3:
        rule = "ZeRO-3 gathers weights by hooks inside of layers, which compiling would freeze"
        yield Fault(_COMPILE, "blocks with zero.stage 3", rule, _OFF)
    if config.model.activation_checkpointing:
        rule = "a layer is either compiled, or checkpointed and computed again"
        yield Fault(_COMPILE, "blocks with model.activation_checkpointing", rule, _OFF)
    if parts > 1:
        rule = "layers that exchange sequences are not compiled"
        yield Fault(_COMPILE, f"blocks with sequence_parallel_size {parts}", rule, _OFF)
    if config.adaptation.kind is not AdaptationKind.full:
        rule = "layers with adapters are not compiled"
        yield Fault(
            _COMPILE, f"blocks with adaptation.kind {config.adaptation.kind.value}", rule, _OFF
        )
    if config.kernels.liger is Liger.on:
        rule = "torch.compile fuses by itself what Liger's kernels fuse"
        yield Fault(_COMPILE, "blocks with kernels.liger on", rule, "Set one of them to off.")


def kernel_device_faults(config: Config, cuda: bool) -> Iterator[Fault]:
    """What the machine that trains cannot do.

    Args:
        cuda: it has GPUs.
    """
    if config.kernels.liger is Liger.on and (obstacle := liger_obstacle(cuda)):
        yield liger_fault(obstacle)
    compiler = os.environ.get("CXX", "g++")
    if config.kernels.compile is Compile.blocks and not cuda and not shutil.which(compiler):
        rule = f"on a CPU torch.compile writes C++, and there is no compiler '{compiler}' here"
        yield Fault(_COMPILE, "blocks", rule, "Install one (apt install g++), or set it to off.")


def liger_fault(obstacle: str) -> Fault:
    """Liger's kernels are demanded in spite of an obstacle."""
    return Fault("kernels.liger", "on", obstacle, "Set kernels.liger=auto to train without.")


def liger_obstacle(cuda: bool) -> str | None:
    """Why Liger's kernels cannot be used for any model; None if they can.

    Args:
        cuda: there are GPUs.
    """
    if not cuda:
        return "there is no GPU here"
    try:
        installed = Version(importlib.metadata.version("liger-kernel"))
    except importlib.metadata.PackageNotFoundError:
        return "liger-kernel is not installed"
    if installed < OLDEST_LIGER:
        return f"liger-kernel {installed} is older than {OLDEST_LIGER}"
    return None
