"""The DeepSpeed JSON: every value explicit, and nothing unknown gets in through zero.extra."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

from data_modules.faults import ConfigFault
from trainer.config.schema import Config, Offload, OptimizerConfig, Precision, ZeroConfig
from trainer.deepspeed_config import EXTRA_KEYS, ZEROPP_KEYS, deepspeed_config, quantised_faults


def config(**zero: Any) -> Config:
    return Config(
        micro_batch_size=3, zero=ZeroConfig(**zero), optimizer=OptimizerConfig(max_grad_norm=0.5)
    )


def test_stage_2_in_full() -> None:
    assert deepspeed_config(config(stage=2), dp_world_size=4) == {
        "train_batch_size": 12,
        "train_micro_batch_size_per_gpu": 3,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.5,
        "steps_per_print": None,
        "timers": {"throughput": {"enabled": False}},
        "bf16": {"enabled": True, "check_grad_overflow": False},
        "fp16": {"enabled": False},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": {
            "stage": 2,
            "overlap_comm": True,
            "contiguous_gradients": True,
            "reduce_scatter": True,
            "reduce_bucket_size": 50_000_000,
            "allgather_bucket_size": 50_000_000,
            "round_robin_gradients": False,
        },
    }


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_sections_of_every_stage_are_valid(stage: int) -> None:
    section = deepspeed_config(config(stage=stage), 2)["zero_optimization"]
    parsed = DeepSpeedZeroConfig(**section)
    assert parsed.stage == stage
    assert section["overlap_comm"] is (stage == 2)
    assert ("stage3_prefetch_bucket_size" in section) is (stage == 3)


def test_zeropp() -> None:
    names = ("hpz_partition_size", "quantized_weights", "quantized_gradients")
    plain = deepspeed_config(config(stage=3), 4)
    values = dict(zip(names, (4, True, True), strict=True))
    built = deepspeed_config(config(stage=3, **values), 4)
    for name, value in values.items():
        section = built["zero_optimization"]
        assert section[f"zero_{name}"] == getattr(DeepSpeedZeroConfig(**section), f"zero_{name}")
        assert section[f"zero_{name}"] == value
        assert plain["zero_optimization"][f"zero_{name}"] == getattr(ZeroConfig(), name)
    # the kernels read gradients as fp16, whatever they are
    assert built["communication_data_type"] == "fp16"
    assert "communication_data_type" not in deepspeed_config(
        config(stage=3, quantized_weights=True), 4
    )


@pytest.mark.parametrize(
    ("extra", "where"),
    [
        ({"communication_data_type": "bfp16"}, "zero.extra.communication_data_type"),
        *(
            (
                {"zero_optimization": {key: 2}},
                f"zero.extra.zero_optimization.{key}",
            )
            for key in sorted(ZEROPP_KEYS)
        ),
    ],
)
@pytest.mark.parametrize("stage", [2, 3])
def test_zeropp_is_not_set_past_its_own_fields(
    stage: int, extra: dict[str, Any], where: str
) -> None:
    with pytest.raises(ConfigFault) as caught:
        deepspeed_config(config(stage=stage, quantized_gradients=True, extra=extra), 4)
    assert [fault.where for fault in caught.value.faults] == [where]


def test_weights_that_would_be_quantised_with_padding() -> None:
    sizes = {"whole": (1024, 768), "odd": (1001, 1000), "small": (77, 11)}
    parameters = [
        (name, torch.nn.Parameter(torch.empty(size, device="meta"))) for name, size in sizes.items()
    ]
    zero = ZeroConfig(stage=3, quantized_weights=True)
    (fault,) = quantised_faults(zero, parameters, 16)
    assert fault.seen == "true with odd of 1001000 elements on 16 ranks"
    assert fault.rule == "the elements must be a multiple of 8 times the ranks, 128"
    assert list(quantised_faults(zero, parameters, 5)) != []
    assert list(quantised_faults(zero, parameters[:1], 16)) == []
    assert list(quantised_faults(ZeroConfig(stage=3), parameters, 16)) == []


@pytest.mark.parametrize("device", ["optimizer", "parameters"])
def test_offloading(device: str) -> None:
    built = deepspeed_config(config(stage=3, **{f"offload_{device}": Offload.cpu}), 2)
    section = built["zero_optimization"]
    name = {"optimizer": "offload_optimizer", "parameters": "offload_param"}[device]
    assert section[name] == {"device": "cpu", "pin_memory": True}
    assert len({"offload_optimizer", "offload_param"} & set(section)) == 1
    # Our fused AdamW is kept: DeepSpeed's CPU Adam would have to be compiled.
    assert built["zero_force_ds_cpu_optimizer"] is False
    DeepSpeedZeroConfig(**section)


@pytest.mark.parametrize(
    ("stage", "precision", "clipping"),
    [(0, Precision.fp32, 0.0), (1, Precision.fp32, 0.5), (3, Precision.bf16, 0.5)],
)
def test_clipping_is_left_to_whoever_tells_the_norm(
    stage: int, precision: Precision, clipping: float
) -> None:
    one = config(stage=stage)
    one.precision = precision
    built = deepspeed_config(one, 1)
    assert built["gradient_clipping"] == clipping
    assert built["bf16"]["enabled"] is (precision is Precision.bf16)


def test_extra_keys_are_added() -> None:
    extra = {
        "wall_clock_breakdown": True,
        "zero_optimization": {"sub_group_size": 1000, "stage3_max_live_parameters": 2},
    }
    built = deepspeed_config(config(stage=3, extra=extra), 2)
    plain = deepspeed_config(config(stage=3), 2)
    assert built["wall_clock_breakdown"] is True
    section = built.pop("zero_optimization")
    assert section == plain.pop("zero_optimization") | extra["zero_optimization"]
    assert built == plain | {"wall_clock_breakdown": True}
    assert extra["zero_optimization"] == {"sub_group_size": 1000, "stage3_max_live_parameters": 2}


def faults(extra: dict[str, Any], stage: int = 3) -> list[tuple[str, str]]:
    with pytest.raises(ConfigFault) as caught:
        deepspeed_config(config(stage=stage, extra=extra), 2)
    return [(fault.where, fault.seen) for fault in caught.value.faults]


def test_top_level_typos_and_our_own_keys_are_refused() -> None:
    # DeepSpeed takes the first without a word and trains without ZeRO.
    extra = {"zero_optimisation": {"stage": 3}, "gradient_accumulation_steps": 4, "bf16": {}}
    assert faults(extra) == [
        ("zero.extra.zero_optimisation", "not allowed here"),
        ("zero.extra.gradient_accumulation_steps", "not allowed here"),
        ("zero.extra.bf16", "not allowed here"),
    ]
    assert not EXTRA_KEYS & (set(deepspeed_config(config(), 1)) - {"zero_optimization"})


def test_unknown_and_taken_zero_keys_are_refused_together() -> None:
    section = {"sub_groop_size": 1, "stage": 1, "reduce_bucket_size": 5, "sub_group_size": 9}
    assert faults({"zero_optimization": section, "optimizer": {}}) == [
        ("zero.extra.optimizer", "not allowed here"),
        ("zero.extra.zero_optimization.sub_groop_size", "unknown key"),
        ("zero.extra.zero_optimization.stage", "already set"),
        ("zero.extra.zero_optimization.reduce_bucket_size", "already set"),
    ]


def test_a_field_set_by_its_other_name_is_refused() -> None:
    # "prefetch_bucket_size" is the field, "stage3_prefetch_bucket_size" the alias that we set.
    (fault,) = faults({"zero_optimization": {"prefetch_bucket_size": 7}})
    assert fault[0] == "zero.extra.zero_optimization.prefetch_bucket_size"


def test_values_of_the_wrong_type_are_refused() -> None:
    section = {"sub_group_size": "many", "stage3_max_live_parameters": -1}
    assert faults({"zero_optimization": section}) == [
        ("zero.extra.zero_optimization.sub_group_size", "'many'"),
        ("zero.extra.zero_optimization.stage3_max_live_parameters", "-1"),
    ]


@pytest.mark.parametrize("section", [3, "stage3", [1], None])
def test_a_section_that_is_no_mapping_is_refused(section: Any) -> None:
    assert faults({"zero_optimization": section}) == [
        ("zero.extra.zero_optimization", repr(section))
    ]


def test_faults_leave_no_half_built_state() -> None:
    one = config(stage=3, extra={"zero_optimization": {"sub_group_size": 5, "oops": 1}})
    for _ in range(2):
        with pytest.raises(ConfigFault, match="oops: unknown key"):
            deepspeed_config(one, 2)
