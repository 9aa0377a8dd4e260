"""The model as numbers: built on the meta device from its configuration alone, no weight is loaded."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForCausalLM, PretrainedConfig

from data_modules.faults import ConfigFault, Fault
from trainer import model as models
from trainer.config.schema import AdaptationConfig, Config, Init, ModelConfig
from trainer.estimate.trace import BY_SEGMENT, FUSED
from trainer.loss import MultiTaskLM, SupervisedHead

#: Settings that models of many experts have one of.
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")


class Role(StrEnum):
    """Which positions a matrix is multiplied with."""

    layer = "layer"  # all
    head = "head"  # those of which the next token is asked: the output projection
    table = "table"  # none: its rows are looked up


@dataclass(frozen=True)
class Weight:
    """One parameter.

    Attributes:
        matrix: it is in the optimizer's first group, that of weight decay.
    """

    name: str
    numel: int
    trained: bool
    matrix: bool
    role: Role = Role.layer


@dataclass(frozen=True)
class Shape:
    """What of a model decides memory and time.

    Attributes:
        weights: in the model's order; a tied weight is one.
        layers, width: of the transformer.
        attended: width of a layer's attention, heads x head size.
        has_experts: a token meets some of the weights only, which is not counted.
    """

    weights: tuple[Weight, ...]
    layers: int
    width: int
    attended: int
    has_experts: bool = False

    @property
    def parameters(self) -> int:
        return sum(one.numel for one in self.weights)

    @property
    def trained(self) -> int:
        return sum(one.numel for one in self.weights if one.trained)

    def computed(self, role: Role) -> tuple[int, int]:
        """Elements of the matrices of a role, and of the trained ones among them."""
        found = [one for one in self.weights if one.matrix and one.role is role]
        return sum(one.numel for one in found), sum(one.numel for one in found if one.trained)

    @property
    def numels(self) -> list[int]:
        return [one.numel for one in self.weights]


def described(config: Config, init_from: str | None = None) -> PretrainedConfig:
    """The model's own configuration.

    A tokenizer is only asked for where a random model's vocabulary is not said to have a size.

    Raises:
        ConfigFault: there is no such model, or its size is not known.
    """
    settings = config.model
    if init_from is None and settings.init is Init.random:
        fields = settings.architecture
        tokenizer: Any = None
        if "vocab_size" in fields:
            tokenizer = _NoTokenizer(fields["vocab_size"])
        elif not settings.tokenizer or _missing(settings.tokenizer):
            rule = "a tokenizer, or architecture.vocab_size, says how many embeddings there are"
            remedy = "Set model.architecture.vocab_size=N."
            raise ConfigFault(Fault("model.tokenizer", str(settings.tokenizer), rule, remedy))
        else:
            tokenizer = models.load_tokenizer(settings, None)
        return models.describe(settings, tokenizer, None)
    return models.describe(settings, None, init_from)


def _missing(path: str) -> bool:
    return path.startswith((".", "/", "~")) and not Path(path).is_dir()


class _NoTokenizer:
    """Stands for a tokenizer of which only the size is known."""

    bos_token_id = eos_token_id = pad_token_id = None

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size


def meta_model(
    config: ModelConfig,
    description: PretrainedConfig,
    adaptation: AdaptationConfig,
    checkpointing: bool,
    dtype: torch.dtype,
    fused_attention: bool,
) -> MultiTaskLM:
    """The module that the engine wraps, on the meta device.

    Args:
        description: what ``config`` leads to.
        checkpointing: with activation checkpointing, whatever ``config`` says.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            copy.deepcopy(description),
            dtype=torch.float32,
            attn_implementation=FUSED if fused_attention else BY_SEGMENT,
            trust_remote_code=config.trust_remote_code,
        )
        SupervisedHead.adopt(model.get_output_embeddings())
        model.config.use_cache = False
        if checkpointing:
            models.checkpoint_activations(model)
        module = MultiTaskLM(models.adapt(model, adaptation), tasks=1)
    for parameter in module.parameters():  # as DeepSpeed does it: buffers stay as they are
        parameter.data = parameter.data.to(dtype)
    return module


def head_size(text: PretrainedConfig) -> int:
    """Numbers of an attention head, by a language model's configuration; 0 where it has no heads."""
    heads = getattr(text, "num_attention_heads", 0)
    return getattr(text, "head_dim", None) or (text.hidden_size // heads if heads else 0)


def shape_of(module: MultiTaskLM) -> Shape:
    """The numbers of a model whose weights are not partitioned."""
    text = module.causal_model.config.get_text_config()
    return Shape(
        tuple(_weights(module)),
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        attended=getattr(text, "num_attention_heads", 0) * head_size(text),
        has_experts=any(getattr(text, name, None) for name in _EXPERTS),
    )


def _weights(module: MultiTaskLM) -> Iterator[Weight]:
    head = module.causal_model.get_output_embeddings().weight
    tables = {id(one.weight) for one in module.modules() if isinstance(one, nn.Embedding)}
    for name, one in module.named_parameters():
        # a tied weight is both, and multiplied
        role = Role.head if one is head else Role.table if id(one) in tables else Role.layer
        yield Weight(name, one.numel(), one.requires_grad, one.ndim >= 2, role)
