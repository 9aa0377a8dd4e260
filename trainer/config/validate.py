"""Rules on values and between fields: every fault of the configuration, before data is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_modules.disk import place_fault
from data_modules.faults import ConfigFault, Fault
from trainer.config.rules import above_zero, at_least, share
from trainer.config.schema import (
    AdaptationKind,
    Config,
    Init,
    Offload,
    OnNonFinite,
    OnSpike,
    Precision,
)
from trainer.config.validate_cluster import cluster_faults
from trainer.config.validate_data import data_faults
from trainer.config.validate_engine import live_engine_faults
from trainer.config.validate_estimate import estimate_faults
from trainer.config.validate_keeping import keeping_faults
from trainer.config.validate_kernels import kernel_device_faults, kernel_faults
from trainer.config.validate_meters import meter_faults
from trainer.config.validate_mixture import curriculum_faults
from trainer.config.validate_names import name_faults
from trainer.config.validate_parallel import device_faults, parallel_faults
from trainer.config.validate_sweep import sweep_faults
from trainer.deepspeed_config import deepspeed_config
from trainer.deepspeed_start import lock_faults

#: Signs of life that fit into the stall timeout: a late one is no death.
_LEAST_HEARTBEATS = 3


def validate(config: Config, dp_world_size: int | None) -> None:
    """Check the whole configuration.

    Args:
        dp_world_size: ranks of the training; None where nothing is trained.

    Raises:
        ConfigFault: listing every fault found.
    """
    faults = [
        *_run(config),
        *name_faults(config),
        *data_faults(config),
        *curriculum_faults(config),
        *_batch(config, dp_world_size),
        *_model(config),
        *_zero(config),
        *parallel_faults(config, dp_world_size),
        *kernel_faults(config),
        *_updates(config),
        *_evaluation(config),
        *(live_engine_faults(config) if dp_world_size is not None else ()),
        *keeping_faults(config),
        *meter_faults(config, dp_world_size),
        *_faults(config),
        *cluster_faults(config),
        *sweep_faults(config),
        *estimate_faults(config),
    ]
    if faults:
        raise ConfigFault(faults)


def validate_sizes(config: Config, dp_world_size: int) -> None:
    """Check what an estimate without data depends on.

    Raises:
        ConfigFault: listing every fault found.
    """
    faults = [
        *_batch(config, dp_world_size),
        *_zero(config),
        *parallel_faults(config, dp_world_size),
        *_updates(config),
        *cluster_faults(config),
        *estimate_faults(config),
    ]
    if faults:
        raise ConfigFault(faults)


def _run(config: Config) -> Iterator[Fault]:
    for key in ("run_name", "output_dir"):
        if not getattr(config, key).strip():
            yield Fault(key, "empty", "a run is kept under it", f"Set {key}=...")
    places = {"output_dir": config.output_dir, "data.cache_dir": config.data.cache_dir}
    for key, place in places.items():
        # a shared cache that is complete may be read-only
        fault = place_fault(key, Path(place), writable=key == "output_dir")
        if fault is not None:
            yield fault


def validate_device(config: Config, cuda: bool) -> None:
    """Check that the machine that trains can do what is asked of it.

    Args:
        cuda: it has GPUs.

    Raises:
        ConfigFault: listing every fault found.
    """
    faults = [
        *device_faults(config, cuda),
        *kernel_device_faults(config, cuda),
        *lock_faults(config.zero),
    ]
    if faults:
        raise ConfigFault(faults)


def _batch(config: Config, dp_world_size: int | None) -> Iterator[Fault]:
    faults: list[Fault] = []
    at_least("micro_batch_size", config.micro_batch_size, 1, faults)
    at_least("global_batch_size", config.global_batch_size, 1, faults)
    parts = max(1, config.sequence_parallel_size)
    if not faults and dp_world_size is not None:
        groups = max(1, dp_world_size // parts)
        unit = groups * (1 if config.data.packing else config.micro_batch_size)
        if config.global_batch_size % unit:
            of_what = f"{groups} ranks"
            if parts > 1:
                of_what = f"{groups} groups of {parts} ranks"
            if not config.data.packing:
                of_what += f" x micro_batch_size {config.micro_batch_size}"
            below = config.global_batch_size // unit * unit
            options = [str(size) for size in (below, below + unit) if size]
            faults.append(
                Fault(
                    "global_batch_size",
                    f"{config.global_batch_size}",
                    f"it must be divisible by {of_what} = {unit}",
                    f"Try {' or '.join(options)}.",
                )
            )
    yield from faults


def _model(config: Config) -> Iterator[Fault]:
    model = config.model
    if model.init is Init.pretrained:
        if model.path is None:
            remedy = "Set model.path to a model directory or hub name."
            yield Fault("model.path", "not set", "init: pretrained loads weights from it", remedy)
        else:
            yield from _directory("model.path", model.path, "config.json")
    else:
        if "model_type" not in model.architecture:
            rule = "init: random builds a model from it"
            yield Fault("model.architecture.model_type", "not set", rule, "For example qwen2.")
        if model.tokenizer is None and model.path is None:
            yield Fault("model.tokenizer", "not set", "a model built from a config brings none")
    if model.tokenizer is not None and config.data.benchmark is None:
        yield from _directory("model.tokenizer", model.tokenizer, "tokenizer_config.json")
    if config.init_from is not None:
        yield from _directory("init_from", config.init_from, "config.json")


def _directory(key: str, path: str, file: str) -> Iterator[Fault]:
    """A fault if ``path`` can only be meant as a directory and is none with ``file``.

    "owner/name" that does not exist here may be a hub name; loading it decides.
    """
    may_be_hub_name = path.count("/") == 1 and path[0] not in "./~"
    if not Path(path).is_dir():
        if not may_be_hub_name:
            yield Fault(key, path, "no such directory", "Check the path.")
    elif not (Path(path) / file).is_file():
        rule = f"the directory holds no {file}"
        yield Fault(key, path, rule, "It must be in Hugging Face format.")


def _zero(config: Config) -> Iterator[Fault]:
    zero, faults = config.zero, list[Fault]()
    if zero.stage not in (0, 1, 2, 3):
        faults.append(Fault("zero.stage", f"{zero.stage}", "ZeRO has the stages 0, 1, 2 and 3"))
    if zero.stage == 0 and config.precision is Precision.bf16:
        rule = "without ZeRO, DeepSpeed would accumulate gradients in bf16"
        faults.append(
            Fault(
                "zero.stage", "0 with precision bf16", rule, "Choose zero=zero1, or precision=fp32."
            )
        )
    if zero.offload_parameters is not Offload.none and zero.stage != 3:
        seen = f"{zero.offload_parameters.value} with stage {zero.stage}"
        rule = "only stage 3 partitions parameters"
        faults.append(Fault("zero.offload_parameters", seen, rule, "Choose zero=zero3_offload."))
    if zero.offload_optimizer is not Offload.none and zero.stage == 0:
        seen = f"{zero.offload_optimizer.value} with stage 0"
        rule = "stage 0 does not partition the optimizer"
        faults.append(Fault("zero.offload_optimizer", seen, rule, "Choose a stage of 1 or more."))
    for name in ("reduce_bucket_size", "allgather_bucket_size"):
        at_least(f"zero.{name}", getattr(zero, name), 1, faults)
    if zero.extra:
        try:
            deepspeed_config(config, dp_world_size=1)
        except ConfigFault as fault:
            faults += fault.faults
    yield from faults


def _updates(config: Config) -> Iterator[Fault]:
    optimizer, faults = config.optimizer, list[Fault]()
    for name in ("beta1", "beta2"):
        value = getattr(optimizer, name)
        if not 0 <= value < 1:
            faults.append(Fault(f"optimizer.{name}", f"{value:g}", "it must be in [0, 1)"))
    above_zero("optimizer.eps", optimizer.eps, faults)
    at_least("optimizer.weight_decay", optimizer.weight_decay, 0, faults)
    at_least("optimizer.max_grad_norm", optimizer.max_grad_norm, 0, faults)
    if config.adaptation.kind is AdaptationKind.lora:
        at_least("adaptation.rank", config.adaptation.rank, 1, faults)
        at_least("adaptation.alpha", config.adaptation.alpha, 1, faults)
        share("adaptation.dropout", config.adaptation.dropout, faults, below_one=True)
    yield from faults


def _signs_of_life(config: Config) -> Iterator[Fault]:
    cluster, faults = config.cluster, list[Fault]()
    above_zero("cluster.stall_timeout_s", cluster.stall_timeout_s, faults)
    above_zero("cluster.heartbeat_s", cluster.heartbeat_s, faults)
    stall = cluster.stall_s
    if not faults and 0 < stall < _LEAST_HEARTBEATS * cluster.heartbeat_s:
        faults.append(
            Fault(
                "cluster.heartbeat_s",
                f"{cluster.heartbeat_s:g} with a stall timeout of {stall:g} s",
                f"{_LEAST_HEARTBEATS} signs of life must fit into it",
                f"Set cluster.heartbeat_s={stall / _LEAST_HEARTBEATS:g} or less.",
            )
        )
    yield from faults


def _evaluation(config: Config) -> Iterator[Fault]:
    faults: list[Fault] = []
    at_least("evaluation.rows_per_task", config.evaluation.rows_per_task, 1, faults)
    at_least("evaluation.batch_size", config.evaluation.batch_size, 1, faults)
    at_least("evaluation.every_steps", config.evaluation.every_steps, 1, faults)
    at_least("evaluation.soft_crosstalk_rows", config.evaluation.soft_crosstalk_rows, 0, faults)
    at_least("evaluation.train_rows", config.evaluation.train_rows, 0, faults)
    at_least("evaluation.bootstrap_samples", config.evaluation.bootstrap_samples, 1, faults)
    share("evaluation.vllm_memory", config.evaluation.vllm_memory, faults)
    at_least("interference.every_steps", config.interference.every_steps, 1, faults)
    # two halves of which each has a gradient
    at_least("interference.rows_per_task", config.interference.rows_per_task, 2, faults)
    at_least("interference.sketch_size", config.interference.sketch_size, 256, faults)
    for name in ("rows_per_task", "most", "most_per_pair"):
        at_least(f"mining.{name}", getattr(config.mining, name), 1, faults)
    if not config.mining.prompt_sets:
        faults.append(Fault("mining.prompt_sets", "empty", "requests are asked in some way"))
    at_least("logging.console_seconds", config.logging.console_seconds, 0, faults)
    at_least("cluster.process_group_timeout_s", config.cluster.process_group_timeout_s, 1, faults)
    faults += _signs_of_life(config)
    at_least("limits.steps_per_phase", config.limits.steps_per_phase, 1, faults)
    at_least("cluster.threads_per_rank", config.cluster.threads_per_rank, 1, faults)
    yield from faults


def _faults(config: Config) -> Iterator[Fault]:
    settings, faults = config.faults, list[Fault]()
    # at 1, a step is above what its tasks lately lost half of the time
    if not settings.spike_factor > 1:
        seen = f"{settings.spike_factor:g}"
        faults.append(Fault("faults.spike_factor", seen, "it must be above 1", "Try 2."))
    for name in ("spike_margin", "most_skips", "most_rollbacks", "rollback_before"):
        at_least(f"faults.{name}", getattr(settings, name), 0, faults)
    rolls_back = OnNonFinite.rollback is settings.nonfinite or OnSpike.rollback is settings.spike
    if rolls_back and not config.checkpoint.sharded:
        faults.append(
            Fault(
                "faults",
                "rollback without checkpoint.sharded",
                "a run rolls back to its last checkpoint",
                "Set checkpoint.sharded=true, or choose faults=default.",
            )
        )
    yield from faults
