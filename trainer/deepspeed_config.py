"""The DeepSpeed JSON, built in one place with every value explicit.

DeepSpeed accepts misspelt top-level keys without a word (``zero_optimisation`` turns ZeRO off) and has
defaults that change training (``gradient_clipping`` 1.0), so nothing is left to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch

from data_modules.faults import ConfigFault, Fault
from trainer.config.schema import Config, Offload, Precision, ZeroConfig

# Top-level keys that zero.extra may set: they leave batches, precision and the loss alone, and have
# no section of their own in which DeepSpeed would ignore a misspelt key.
EXTRA_KEYS = frozenset(
    {
        "communication_data_type",
        "dump_state",
        "memory_breakdown",
        "wall_clock_breakdown",
        "zero_optimization",
    }
)
#: Stage 3 keeps parameters of up to so many elements whole on every rank.
PERSISTENT = 100_000
# Set by zero.*, whatever the stage is.
ZEROPP_KEYS = frozenset(
    {
        "zero_hpz_partition_size",
        "zero_quantized_weights",
        "zero_quantized_gradients",
        "zero_quantized_nontrainable_weights",
    }
)


def deepspeed_config(config: Config, dp_world_size: int) -> dict[str, Any]:
    """The configuration for ``deepspeed.initialize``.

    ``managed_gradient_accumulation: false`` gives the accumulation boundary to our loop: the number
    of micro-steps may differ from step to step, and ``backward`` divides by nothing
    (``gradient_accumulation_steps`` is 1).

    Raises:
        ConfigFault: ``zero.extra`` has keys that DeepSpeed does not know or that are ours.
    """
    bf16 = config.precision is Precision.bf16
    # At stage 0 in fp32 DeepSpeed clips without telling the norm: ZeroEngine does it there.
    clips_itself = config.zero.stage == 0 and not bf16
    built: dict[str, Any] = {
        "train_batch_size": config.micro_batch_size * dp_world_size,
        "train_micro_batch_size_per_gpu": config.micro_batch_size,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": 0.0 if clips_itself else config.optimizer.max_grad_norm,
        "steps_per_print": None,
        # It would wait for the device in every micro-step; trainer.meters times steps without.
        "timers": {"throughput": {"enabled": False}},
        # trainer.guard vetoes what is not finite, without a pass over all gradients. With DeepSpeed's own
        # check and an offloaded optimizer, one such gradient stayed in its buffer for good (0.19.8).
        "bf16": {"enabled": bf16, "check_grad_overflow": False},
        "fp16": {"enabled": False},
        "data_types": {"grad_accum_dtype": "fp32"},
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": _zero(config.zero),
    }
    if config.zero.quantized_gradients:
        # The kernels of 0.19.8 read gradients as fp16 whatever they are; bf16 ones would be garbage.
        built["communication_data_type"] = "fp16"
    _add_extra(built, config.zero.extra)
    return built


def _zero(zero: ZeroConfig) -> dict[str, Any]:
    built: dict[str, Any] = {
        "stage": zero.stage,
        # The engine accumulates between steps by itself; stage 2 alone overlaps its reduction then.
        "overlap_comm": zero.overlap_comm and zero.stage == 2,
        "contiguous_gradients": True,
        "reduce_scatter": True,
        "reduce_bucket_size": zero.reduce_bucket_size,
        "allgather_bucket_size": zero.allgather_bucket_size,
        "round_robin_gradients": False,
    }
    if zero.offload_optimizer is not Offload.none:
        built["offload_optimizer"] = {"device": zero.offload_optimizer.value, "pin_memory": True}
    if zero.offload_parameters is not Offload.none:
        built["offload_param"] = {"device": zero.offload_parameters.value, "pin_memory": True}
    if zero.stage == 3:
        built["stage3_prefetch_bucket_size"] = zero.reduce_bucket_size
        built["stage3_param_persistence_threshold"] = PERSISTENT
        built["stage3_gather_16bit_weights_on_model_save"] = False
        built["zero_hpz_partition_size"] = zero.hpz_partition_size
        built["zero_quantized_weights"] = zero.quantized_weights
        built["zero_quantized_gradients"] = zero.quantized_gradients
        # frozen weights kept in 8 bits could neither be exported nor told apart by a checkpoint
        built["zero_quantized_nontrainable_weights"] = False
    return built


def quantised_faults(
    zero: ZeroConfig, parameters: Iterable[tuple[str, torch.nn.Parameter]], ranks: int
) -> Iterator[Fault]:
    """Weights that qwZ would garble: its blocks lie in a rank's part, which must hold no padding."""
    if not zero.quantized_weights:
        return
    unit = 8 * ranks
    for name, parameter in parameters:
        if parameter.numel() > PERSISTENT and parameter.numel() % unit:
            seen = f"true with {name} of {parameter.numel()} elements on {ranks} ranks"
            rule = f"the elements must be a multiple of 8 times the ranks, {unit}"
            remedy = "Set zero.quantized_weights=false, or choose another number of ranks."
            yield Fault("zero.quantized_weights", seen, rule, remedy)


def _add_extra(built: dict[str, Any], extra: dict[str, Any]) -> None:
    if not extra:
        return
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig

    faults = [
        Fault(f"zero.extra.{key}", "not allowed here", f"allowed: {', '.join(sorted(EXTRA_KEYS))}")
        for key in extra
        if key not in EXTRA_KEYS
    ]
    if "communication_data_type" in extra and "communication_data_type" in built:
        where, seen = "zero.extra.communication_data_type", str(extra["communication_data_type"])
        faults.append(Fault(where, seen, "zero.quantized_gradients needs fp16", "Leave it out."))
    known = DeepSpeedZeroConfig.model_fields
    names = set(known) | {field.alias for field in known.values() if field.alias}
    section = extra.get("zero_optimization", {})
    if not isinstance(section, dict):
        where = "zero.extra.zero_optimization"
        raise ConfigFault([*faults, Fault(where, repr(section), "it must be a mapping")])
    for key, value in section.items():
        where = f"zero.extra.zero_optimization.{key}"
        if key not in names:
            faults.append(Fault(where, "unknown key", "DeepSpeed's ZeRO config has no such field"))
        elif key in built["zero_optimization"] or key in ZEROPP_KEYS:
            faults.append(Fault(where, "already set", "zero.* sets it", "Use the typed option."))
        else:
            built["zero_optimization"][key] = value
    if faults:
        raise ConfigFault(faults)
    built |= {key: value for key, value in extra.items() if key != "zero_optimization"}
    _validate_zero(built["zero_optimization"])


def _validate_zero(section: dict[str, Any]) -> None:
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from pydantic import ValidationError

    try:
        DeepSpeedZeroConfig(**section)
    except ValidationError as error:
        raise ConfigFault(
            [
                Fault(
                    "zero.extra.zero_optimization." + ".".join(str(part) for part in one["loc"]),
                    repr(one["input"]),
                    one["msg"],
                )
                for one in error.errors()
            ]
        ) from error
