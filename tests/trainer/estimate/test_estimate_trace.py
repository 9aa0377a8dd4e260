"""A pass on meta tensors: the model's own numbers, and what its activations take."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from trainer import attention
from trainer.config.schema import AdaptationConfig, AdaptationKind, ModelConfig
from trainer.estimate.estimate import _extended
from trainer.estimate.shape import Role, meta_model, shape_of
from trainer.estimate.trace import Pass, trace
from trainer.loss import MultiTaskLM, SupervisedHead
from trainer.model import adapt

FULL = AdaptationConfig()
LORA = AdaptationConfig(kind=AdaptationKind.lora, rank=4)
LAYERS, WIDTH, HEADS, VOCABULARY = 3, 32, 4, 64


def description(kind: str = "llama", tied: bool = False) -> object:
    return AutoConfig.for_model(
        kind,
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=2,
        tie_word_embeddings=tied,
    )


def module(
    *,
    adaptation: AdaptationConfig = FULL,
    checkpointing: bool = False,
    dtype: torch.dtype = torch.float32,
    fused: bool = False,
    kind: str = "llama",
    tied: bool = False,
) -> MultiTaskLM:
    return meta_model(
        ModelConfig(), description(kind, tied), adaptation, checkpointing, dtype, fused
    )  # type: ignore[arg-type]


def traced(length: int = 64, rows: int = 1, **settings: object) -> Pass:
    return trace(module(**settings), 1, rows * length, rows, rows * (length - 1))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("adaptation", [FULL, LORA], ids=["full", "lora"])
def test_a_meta_model_has_the_parameters_of_the_real_one(
    kind: str, tied: bool, adaptation: AdaptationConfig
) -> None:
    real = AutoModelForCausalLM.from_config(
        description(kind, tied), dtype=torch.float32, attn_implementation=attention.NAME
    )
    SupervisedHead.adopt(real.get_output_embeddings())
    whole = MultiTaskLM(adapt(real, adaptation), 1)
    expected = [(name, one.numel(), one.requires_grad) for name, one in whole.named_parameters()]
    shape = shape_of(module(kind=kind, tied=tied, adaptation=adaptation))
    assert [(one.name, one.numel, one.trained) for one in shape.weights] == expected
    assert (shape.layers, shape.width) == (LAYERS, WIDTH)
    tables = [one.name for one in shape.weights if one.role is Role.table]
    (head,) = (one for one in shape.weights if one.role is Role.head)
    assert head.numel == VOCABULARY * WIDTH
    assert tables == ([] if tied else [expected[0][0]])


def test_every_trained_weight_gets_one_gradient_and_the_rest_none() -> None:
    for adaptation in (FULL, LORA):
        model = module(adaptation=adaptation)
        shape = shape_of(model)
        found = trace(model, 1, 64, 1, 63)
        trained = {at for at, one in enumerate(shape.weights) if one.trained}
        assert {one.weight for one in found.arrivals} == trained
        assert len(found.arrivals) == len(trained)


def test_the_output_projection_is_first_in_the_backward_and_the_embedding_last() -> None:
    model = module()
    names = [one.name for one in shape_of(model).weights]
    order = [names[one.weight] for one in trace(model, 1, 64, 1, 63).arrivals]
    assert order[0] == "model.lm_head.weight"
    assert order[-1] == "model.model.embed_tokens.weight"


def test_nothing_is_left_behind_a_pass() -> None:
    found = traced()
    # the loss and its scale
    assert found.arrivals[-1].live <= 64


def test_activations_grow_with_the_tokens_and_halve_in_bf16() -> None:
    one, two = traced(64).kept, traced(128).kept
    assert two == pytest.approx(2 * one, rel=0.02)
    # norms and rotations are computed in fp32 either way
    assert one / 2 < traced(64, dtype=torch.bfloat16).kept < 0.75 * one


def test_attention_never_holds_a_matrix_of_tokens_by_tokens() -> None:
    long, short = traced(4096).kept, traced(1024).kept
    assert long == pytest.approx(4 * short, rel=0.02)


def test_segments_of_one_row_cost_no_more_than_a_cut() -> None:
    assert traced(64, rows=4).peak == pytest.approx(traced(256, rows=1).peak, rel=0.1)


def test_one_kernel_keeps_no_pieces() -> None:
    assert traced(64, rows=4, fused=True).kept < traced(64, rows=4).kept


def test_activation_checkpointing_keeps_the_inputs_of_layers() -> None:
    length = 256
    kept = traced(length, checkpointing=True).kept
    inputs = LAYERS * length * WIDTH * 4
    assert inputs <= kept < 4 * inputs < traced(length).kept


def test_activation_checkpointing_runs_layers_twice() -> None:
    plain, again = traced(), traced(checkpointing=True)
    runs = [sum(one.forward for one in found.visits) for found in (plain, again)]
    outside = 3  # embedding, last norm, output projection
    assert runs[1] - outside == 2 * (runs[0] - outside)


def test_a_pass_of_more_rows_is_extended_from_one_and_two() -> None:
    one, two, six = (traced(128, rows=rows) for rows in (1, 2, 6))
    extended = _extended(one, two, 6)
    assert extended.kept == pytest.approx(six.kept, rel=0.01)
    assert extended.peak == pytest.approx(six.peak, rel=0.02)
    assert [one.weight for one in extended.arrivals] == [one.weight for one in six.arrivals]
    assert _extended(one, two, 2) == replace(two, visits=one.visits)
