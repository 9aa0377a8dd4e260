"""Which models can share sequences, by their config.json; one that turns out not to is not trained."""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch
from test_attention import model
from transformers import AutoConfig

from trainer.faults import TrainingFault
from trainer.sequence_parallel import SequenceGroup, sharing_faults


def described(model_type: str = "qwen2", **fields: Any) -> Any:
    settings = {"num_attention_heads": 12, "num_key_value_heads": 2, "hidden_size": 48, **fields}
    return AutoConfig.for_model(model_type, **settings)


@pytest.mark.parametrize("size", [2, 3, 4, 6, 12])
def test_sizes_that_divide_the_heads(size: int) -> None:
    assert list(sharing_faults(described(), size)) == []


def test_heads_are_shared_equally() -> None:
    (fault,) = sharing_faults(described(), 8)
    assert (fault.where, fault.seen) == ("sequence_parallel_size", "8")
    assert fault.rule == "each rank takes an equal share of the model's 12 attention heads"
    assert fault.remedy == "Try 2 or 3 or 4 or 6 or 12."
    (fault,) = sharing_faults(described(num_attention_heads=1, num_key_value_heads=1), 2)
    assert fault.remedy == "Set sequence_parallel_size=1."


@pytest.mark.parametrize(
    ("config", "rule"),
    [
        (AutoConfig.for_model("mamba"), "the model has no attention heads to share"),
        (
            described("falcon_h1"),
            "layers that are no attention would mix the positions of a slice alone (mamba_chunk_size)",
        ),
        (
            described("gemma3_text"),
            "only full attention is shared; it also has layers of sliding_attention",
        ),
        (
            described(
                rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}
            ),
            "rotary positions of type 'dynamic' depend on the whole sequence, ranks see slices",
        ),
    ],
    ids=["no heads", "state space", "sliding layers", "dynamic rope"],
)
def test_models_that_mix_positions_otherwise(config: Any, rule: str) -> None:
    faults = [fault for fault in sharing_faults(config, 2) if fault.rule == rule]
    assert [fault.where for fault in faults] == ["sequence_parallel_size"]
    assert config.model_type in faults[0].seen


class Alone:
    """A sequence group of one rank, which exchanges with nobody."""

    attend = SequenceGroup.attend
    every_layer = SequenceGroup.every_layer

    def __init__(self) -> None:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")
        self._group, self.size, self._calls = None, 1, 0


def test_a_layer_without_shared_attention_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    made = model("qwen2")  # two layers
    group: Any = Alone()
    monkeypatch.setattr(
        "deepspeed.sequence.layer.DistributedAttention",
        lambda local, *_, **__: lambda q, k, v, _, **settings: local(q, k, v, **settings),
    )
    tokens = torch.arange(6)[None]

    def forward() -> torch.Tensor:
        with group.every_layer(made):
            hidden: torch.Tensor = made.base_model(
                input_ids=tokens, use_cache=False, sequence_group=group
            ).last_hidden_state
        return hidden

    with torch.no_grad():
        plain = made.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        assert torch.equal(forward(), plain)
        layer = made.base_model.layers[1]
        attend = layer.self_attn.forward
        monkeypatch.setattr(
            layer.self_attn,
            "forward",
            lambda *args, sequence_group=None, **kwargs: attend(*args, **kwargs),
        )
        with pytest.raises(TrainingFault, match=r"1 of 2 layers of Qwen2ForCausalLM"):
            forward()
