"""Kernels of others in the place of a model's own operations: Liger's, and what torch.compile makes.

Liger's RMSNorm, rotary positions and SwiGLU compute on a GPU in one kernel what a model's own code does in
many. Its loss is not used: it has neither unlikelihood nor sums by task, and before 0.8.2 wrong gradients
of the output projection where tokens weigh differently; :mod:`trainer.loss` is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from data_modules.faults import ConfigFault, Fault
from trainer import attention
from trainer.attention.backends import for_packed
from trainer.config.schema import Compile, Config, KernelsConfig, Liger, Precision
from trainer.config.validate_kernels import liger_fault, liger_obstacle
from trainer.estimate.shape import head_size


@dataclass(frozen=True)
class Kernels:
    """What computes a model's layers.

    Attributes:
        without_liger: why Liger's kernels do not; None where they do.
    """

    attention: str
    without_liger: str | None
    compiled: bool

    @property
    def words(self) -> str:
        """For the log."""
        liger = "on" if self.without_liger is None else f"off ({self.without_liger})"
        compiled = "each layer" if self.compiled else "off"
        return f"attention {self.attention}, Liger {liger}, torch.compile {compiled}"


def chosen(config: Config, model: PreTrainedModel, device: torch.device) -> Kernels:
    """The kernels that train a model on a device."""
    text = model.config.get_text_config()
    dtype = torch.bfloat16 if config.precision is Precision.bf16 else torch.float32
    dropout = getattr(text, "attention_dropout", None) or 0.0
    name = (
        for_packed(device, dtype, head_size(text), dropout).__name__
        if config.data.packing
        else "unpacked"
    )
    compiled = config.kernels.compile is Compile.blocks
    return Kernels(name, _without_liger(config.kernels, model, device.type == "cuda"), compiled)


def _without_liger(kernels: KernelsConfig, model: PreTrainedModel, cuda: bool) -> str | None:
    if kernels.liger is Liger.off:
        return "kernels.liger=off"
    if kernels.liger is Liger.auto and kernels.compile is Compile.blocks:
        return "layers are compiled"
    obstacle, kind = liger_obstacle(cuda), model.config.model_type
    if obstacle is None:
        try:
            from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN
        except ImportError as error:  # of another version of triton or transformers
            return f"liger-kernel cannot be loaded: {error}"
        if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
            return f"liger-kernel has nothing for model type '{kind}'"
    return obstacle


def apply_kernels(config: Config, model: PreTrainedModel, device: torch.device) -> None:
    """Put the chosen kernels into a model, in place, before it is adapted or partitioned.

    Raises:
        ConfigFault: Liger's are demanded and cannot be, or the model has no layers to compile.
    """
    choice = chosen(config, model, device)
    if choice.without_liger is None:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance  # GPU-only extra

        _apply_liger_kernel_to_instance(
            model, cross_entropy=False, fused_linear_cross_entropy=False
        )
    elif config.kernels.liger is Liger.on:
        raise ConfigFault(liger_fault(choice.without_liger))
    if choice.compiled:
        compile_layers(model)


def compile_layers(model: PreTrainedModel) -> None:
    """Let torch.compile compile each layer of a model, for any number of tokens; attention is left out.

    Raises:
        ConfigFault: it has no layers of the kind that transformers' models are made of.
    """
    layers: list[Any] = [
        one for one in model.modules() if isinstance(one, GradientCheckpointingLayer)
    ]
    if not layers:
        seen = f"blocks with a {type(model).__name__}"
        rule = "its layers must be transformers' GradientCheckpointingLayer"
        raise ConfigFault(Fault("kernels.compile", seen, rule, "Set kernels.compile=off."))
    # Traced, it would be compiled anew for every batch: lengths of segments are numbers, not shapes.
    AttentionInterface.register(attention.NAME, torch.compiler.disable(attention.segment_attention))
    for layer in layers:
        layer.compile(dynamic=True)
