"""The count of operations against PyTorch's own, on models small enough to run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM

from trainer import attention
from trainer.config.schema import AdaptationConfig, AdaptationKind
from trainer.estimate.operations import operations_of
from trainer.estimate.shape import shape_of
from trainer.loss import MultiTaskLM, SupervisedHead
from trainer.model import adapt, checkpoint_activations

LENGTHS = (5, 17, 9)  # of the samples in one packed row
ANSWERS = 11
LAYERS, WIDTH, INNER, HEADS, VOCABULARY = 3, 32, 48, 4, 64
FULL = AdaptationConfig()
LORA = AdaptationConfig(kind=AdaptationKind.lora, rank=4)


def made(
    kind: str, adaptation: AdaptationConfig, checkpointing: bool = False, **more: Any
) -> MultiTaskLM:
    settings = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        **more,
    }
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(kind, **settings),
        dtype=torch.float32,
        attn_implementation=attention.NAME,
    )
    SupervisedHead.adopt(model.get_output_embeddings())
    if checkpointing:
        checkpoint_activations(model)
    return MultiTaskLM(adapt(model, adaptation), 1).train()


def counted(model: MultiTaskLM) -> int:
    """What PyTorch counts in a forward and backward of one packed row."""
    total = sum(LENGTHS)
    labels = torch.full((1, total), -100)
    labels[0, 1 : 1 + ANSWERS] = 3
    ends = torch.tensor(LENGTHS).cumsum(0).int()
    batch = {
        "input_ids": torch.arange(total).remainder(VOCABULARY)[None],
        "labels": labels,
        "position_ids": torch.cat([torch.arange(length) for length in LENGTHS])[None],
        "loss_weights": torch.ones(1, total),
        "task_ids": torch.zeros(1, total, dtype=torch.long),
        "cu_seqlens": torch.cat([torch.zeros(1, dtype=torch.int32), ends]),
    }
    # In products of matrices, with all pairs of a sample: not all fused kernels are counted. Nor is a
    # product that is added in place, as PyTorch comes.
    added = {torch.ops.aten.addmm_: _product_of_sum}
    counter = FlopCounterMode(display=False, custom_mapping=added)
    with sdpa_kernel(SDPBackend.MATH), counter:
        loss, _ = model(**batch)
        loss.backward()
    return int(counter.get_total_flops())


def _product_of_sum(_: Any, left: Any, right: Any, **__: Any) -> int:
    return 2 * left[0] * left[1] * right[1]


def formula(model: MultiTaskLM, pairs: float, again: bool = False) -> float:
    return operations_of(shape_of(model), again).of(sum(LENGTHS), pairs, ANSWERS)


ALL_PAIRS = sum(length**2 for length in LENGTHS)
CAUSAL = sum(length * (length + 1) // 2 for length in LENGTHS)


@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {}),
        ("qwen2", {}),
        ("qwen3", {"head_dim": 16}),
        ("llama", {"attention_bias": True}),
    ],
)
def test_it_is_what_pytorch_counts(kind: str, more: dict[str, Any], tied: bool) -> None:
    model = made(kind, FULL, tie_word_embeddings=tied, **more)
    assert formula(model, ALL_PAIRS) == counted(model)


def test_frozen_weights_get_no_gradient() -> None:
    model = made("llama", LORA)
    assert formula(model, ALL_PAIRS) == counted(model)
    assert formula(model, CAUSAL) < formula(made("llama", FULL), CAUSAL)


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_checkpointing_repeats_the_layers_alone(kind: str) -> None:
    model = made(kind, FULL, checkpointing=True)
    # PyTorch stops before the last product of a layer, whose result the backward does not need.
    stopped = LAYERS * 2 * INNER * WIDTH * sum(LENGTHS)
    assert formula(model, ALL_PAIRS, again=True) == counted(model) + stopped
    assert formula(model, CAUSAL) == formula(made(kind, FULL), CAUSAL)


def test_attention_counts_what_a_position_may_see() -> None:
    """Each position attends to itself and those before: counted by hand, pair by pair."""
    shape = shape_of(made("qwen3", FULL, head_dim=16))
    seen = sum(other <= at for n in LENGTHS for at in range(n) for other in range(n))
    assert seen == CAUSAL
    # scores and values, each 2 operations an element; forward, and twice that backward
    by_hand = 3 * LAYERS * HEADS * 16 * (2 + 2) * seen
    assert operations_of(shape).of(0, CAUSAL, 0) == by_hand


def test_experts_are_seen() -> None:
    assert not shape_of(made("llama", FULL)).has_experts
    config = AutoConfig.for_model(
        "mixtral",
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        num_local_experts=2,
    )
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    assert shape_of(MultiTaskLM(model, 1)).has_experts
