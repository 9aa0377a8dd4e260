"""Every rule of the configuration: a fault names its place, the value, the rule and the remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.shared_config import Rule, both, check, faults_of, numbered, put, sound_config
from trainer.config.schema import (
    AdaptationKind,
    Config,
    Init,
    ModelConfig,
    Offload,
    OnNonFinite,
    OnSpike,
    Precision,
)
from trainer.config.validate import validate


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return sound_config(tmp_path)


RULES: list[Rule] = [
    # change, where, seen, rule, part of the remedy
    (put("run_name", " "), "run_name", "empty", "a run is kept under it", "Set run_name"),
    (put("output_dir", ""), "output_dir", "empty", "a run is kept under it", "Set output_dir"),
    # batch
    (put("micro_batch_size", 0), "micro_batch_size", "0", "it must be at least 1", ""),
    (put("global_batch_size", 0), "global_batch_size", "0", "it must be at least 1", ""),
    # mining
    (put("mining.rows_per_task", 0), "mining.rows_per_task", "0", "at least 1", ""),
    (put("mining.most", 0), "mining.most", "0", "at least 1", ""),
    (put("mining.most_per_pair", 0), "mining.most_per_pair", "0", "at least 1", ""),
    (put("mining.prompt_sets", []), "mining.prompt_sets", "empty", "asked in some way", ""),
    # model
    (
        put("model.path", None),
        "model.path",
        "not set",
        "init: pretrained loads weights from it",
        "Set model.path",
    ),
    (put("model.path", "nosuch"), "model.path", "nosuch", "no such directory", "Check the path"),
    (put("model.path", "./no/such"), "model.path", "./no/such", "no such directory", "Check"),
    (
        put("model.path", "./empty"),
        "model.path",
        "./empty",
        "the directory holds no config.json",
        "Hugging Face format",
    ),
    (
        put("model.tokenizer", "./empty"),
        "model.tokenizer",
        "./empty",
        "the directory holds no tokenizer_config.json",
        "Hugging Face format",
    ),
    (put("init_from", "/no/such"), "init_from", "/no/such", "no such directory", "Check"),
    (
        put("model.init", Init.random),
        "model.architecture.model_type",
        "not set",
        "init: random builds a model from it",
        "qwen2",
    ),
    (
        put("model", ModelConfig("m", Init.random, architecture={"model_type": "llama"})),
        "model.tokenizer",
        "not set",
        "a model built from a config brings none",
        "",
    ),
    # engine
    (put("zero.stage", 4), "zero.stage", "4", "ZeRO has the stages 0, 1, 2 and 3", ""),
    (
        put("zero.stage", 0),
        "zero.stage",
        "0 with precision bf16",
        "without ZeRO, DeepSpeed would accumulate gradients in bf16",
        "Choose zero=zero1, or precision=fp32.",
    ),
    (
        put("zero.offload_parameters", Offload.cpu),
        "zero.offload_parameters",
        "cpu with stage 2",
        "only stage 3 partitions parameters",
        "zero=zero3_offload",
    ),
    (
        both(
            put("zero.stage", 0),
            put("precision", Precision.fp32),
            put("zero.offload_optimizer", Offload.cpu),
        ),
        "zero.offload_optimizer",
        "cpu with stage 0",
        "stage 0 does not partition the optimizer",
        "stage of 1 or more",
    ),
    *(
        (put(f"zero.{name}", 0), f"zero.{name}", "0", "it must be at least 1", "")
        for name in ("reduce_bucket_size", "allgather_bucket_size")
    ),
    *(
        (put(f"optimizer.{name}", 1.0), f"optimizer.{name}", "1", "it must be in [0, 1)", "")
        for name in ("beta1", "beta2")
    ),
    (put("optimizer.eps", 0.0), "optimizer.eps", "0", "it must be above 0", ""),
    *(
        (put(f"optimizer.{name}", -1.0), f"optimizer.{name}", "-1", "it must be at least 0", "")
        for name in ("weight_decay", "max_grad_norm")
    ),
    *(
        (
            both(put("adaptation.kind", AdaptationKind.lora), put(f"adaptation.{name}", value)),
            f"adaptation.{name}",
            f"{value}",
            rule,
            "",
        )
        for name, value, rule in (
            ("rank", 0, "it must be at least 1"),
            ("alpha", 0, "it must be at least 1"),
            ("dropout", 1, "it must be in [0, 1)"),
        )
    ),
    # the rest
    *(
        (put(key, low - 1), key, f"{low - 1}", f"it must be at least {low}", "")
        for key, low in (
            ("evaluation.rows_per_task", 1),
            ("evaluation.batch_size", 1),
            ("evaluation.every_steps", 1),
            ("evaluation.soft_crosstalk_rows", 0),
            ("evaluation.train_rows", 0),
            ("evaluation.bootstrap_samples", 1),
            ("interference.every_steps", 1),
            ("interference.rows_per_task", 2),
            ("interference.sketch_size", 256),
            ("logging.console_seconds", 0),
            ("cluster.process_group_timeout_s", 1),
            ("cluster.threads_per_rank", 1),
            ("limits.steps_per_phase", 1),
            ("faults.spike_margin", 0),
            ("faults.most_skips", 0),
            ("faults.most_rollbacks", 0),
            ("faults.rollback_before", 0),
        )
    ),
    (put("checkpoint.every_steps", 0), "checkpoint.every_steps", "0", "at least 1", ""),
    (put("checkpoint.every_minutes", 0.0), "checkpoint.every_minutes", "0", "above 0", ""),
    (put("checkpoint.keep_last", 0), "checkpoint.keep_last", "0", "at least 1", ""),
    (put("limits.wall_time", "0:00:00"), "limits.wall_time", "0", "above 0", ""),
    (put("resume", " "), "resume", "' '", "it is auto, never, or a folder", ""),
    (put("resume", "outputs/nowhere"), "resume", "'outputs/nowhere'", "or a folder", ""),
    *(
        (
            both(put("checkpoint.sharded", False), put(f"checkpoint.{name}", value)),
            f"checkpoint.{name}",
            f"{value}",
            "checkpoint.sharded=false keeps no training state",
            f"checkpoint.{name}=null",
        )
        for name, value in (("every_steps", 5), ("every_minutes", 30))
    ),
    *(
        (put(f"cluster.{name}", value), f"cluster.{name}", f"{value:g}", "it must be above 0", "")
        for name in ("stall_timeout_s", "heartbeat_s")
        for value in (0.0, float("nan"))
    ),
    (
        put("cluster.stall_timeout_s", 14),
        "cluster.heartbeat_s",
        "5 with a stall timeout of 14 s",
        "3 signs of life must fit into it",
        "cluster.heartbeat_s=4.66667 or less",
    ),
    (
        put("cluster.process_group_timeout_s", 10),
        "cluster.heartbeat_s",
        "5 with a stall timeout of 9 s",
        "3 signs of life must fit into it",
        "cluster.heartbeat_s=3 or less",
    ),
    (put("faults.spike_factor", 1.0), "faults.spike_factor", "1", "it must be above 1", "Try 2."),
    (
        put("faults.spike_factor", float("nan")),
        "faults.spike_factor",
        "nan",
        "it must be above 1",
        "Try 2.",
    ),
    *(
        (
            both(put("checkpoint.sharded", False), put(f"faults.{key}", value)),
            "faults",
            "rollback without checkpoint.sharded",
            "rolls back to its last checkpoint",
            "checkpoint.sharded=true",
        )
        for key, value in (("nonfinite", OnNonFinite.rollback), ("spike", OnSpike.rollback))
    ),
]


def test_a_sound_configuration_passes(config: Config) -> None:
    validate(config, 1)
    validate(config, 8)


@pytest.mark.parametrize("rule", RULES, ids=numbered(RULES))
def test_rule(config: Config, rule: Rule) -> None:
    check(config, rule)


@pytest.mark.parametrize(
    ("size", "micro", "packing", "ranks", "unit", "options"),
    [
        (64, 1, True, 3, "3 ranks = 3", "63 or 66"),
        (64, 5, True, 3, "3 ranks = 3", "63 or 66"),  # packing: micro_batch_size is a token budget
        (64, 5, False, 3, "3 ranks x micro_batch_size 5 = 15", "60 or 75"),
        (2, 1, True, 4, "4 ranks = 4", "4"),
    ],
)
def test_batches_must_divide(
    config: Config, size: int, micro: int, packing: bool, ranks: int, unit: str, options: str
) -> None:
    config.global_batch_size, config.micro_batch_size = size, micro
    config.data.packing = packing
    (fault,) = faults_of(config, ranks)
    assert (fault.where, fault.seen) == ("global_batch_size", f"{size}")
    assert fault.rule == f"it must be divisible by {unit}"
    assert fault.remedy == f"Try {options}."
    for option in options.split(" or "):
        config.global_batch_size = int(option)
        validate(config, ranks)


def test_hub_names_are_left_to_the_loader(config: Config) -> None:
    config.model.path = "Qwen/Qwen2.5-7B"
    validate(config, 1)


def test_deepspeed_keys_are_checked_before_any_data_is_read(config: Config) -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    config.zero.extra = {"gradient_clipping": 3, "zero_optimization": {"stage3_nosuch": 1}}
    faults = {fault.where: fault.seen for fault in faults_of(config)}
    assert faults == {
        "zero.extra.gradient_clipping": "not allowed here",
        "zero.extra.zero_optimization.stage3_nosuch": "unknown key",
    }
    config.zero.extra = {"zero_optimization": {"sub_group_size": 1_000_000}}
    validate(config, 1)


def test_all_faults_are_listed_at_once(config: Config) -> None:
    config.optimizer.beta1 = 2.0
    config.data.root = "nosuch"
    config.model.path = "nosuch"
    config.curriculum.phases["mix"].lr = 0.0
    config.global_batch_size = 3
    config.limits.steps_per_phase = 0
    assert {fault.where for fault in faults_of(config, ranks=2)} == {
        *(
            "optimizer.beta1",
            "data.root",
            "model.path",
            "curriculum.phases.mix.lr",
            "global_batch_size",
        ),
        "limits.steps_per_phase",
    }
