"""Every rule of the configuration: a fault names its place, the value, the rule and the remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from data_modules.benchmark import BenchmarkSpec
from data_modules.config import DataConfig, SourceConfig, TaskConfig
from data_modules.faults import ConfigFault, Fault
from data_modules.mixture import BalanceConfig, Strategy
from trainer.config.schema import (
    AdaptationKind,
    Config,
    CurriculumConfig,
    Init,
    ModelConfig,
    Offload,
    PhaseConfig,
    Precision,
)
from trainer.config.validate import validate

Change = Callable[[Config], None]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    """A valid configuration: tasks qa, code and the general chat; one phase."""
    monkeypatch.chdir(tmp_path)
    for name in ("qa", "code", "chat"):
        for split in ("train", "eval"):
            path = tmp_path / "data" / split / f"{name}.jsonl"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    for name in ("config.json", "tokenizer_config.json"):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).touch()
    (tmp_path / "empty").mkdir()
    tasks = {
        name: TaskConfig({"main": SourceConfig(f"train/{name}.jsonl", f"eval/{name}.jsonl")})
        for name in ("qa", "code", "chat")
    }
    tasks["chat"].general = True
    return Config(
        run_name="test",
        output_dir="outputs/test",
        data=DataConfig(name="test", root="data", tasks=tasks, groups={"hard": ["code"]}),
        curriculum=CurriculumConfig(phases={"mix": PhaseConfig(epochs=1.0, replay=0.3)}),
        model=ModelConfig(name="m", path="./model"),
    )


def faults_of(config: Config, ranks: int = 1) -> list[Fault]:
    with pytest.raises(ConfigFault) as caught:
        validate(config, ranks)
    return caught.value.faults


def put(key: str, value: object) -> Change:
    """Set one dotted key."""

    def change(config: Config) -> None:
        *path, last = key.split(".")
        place: object = config
        for name in path:
            place = place[name] if isinstance(place, dict) else getattr(place, name)
        if isinstance(place, dict):
            place[last] = value
        else:
            setattr(place, last, value)

    return change


def both(*changes: Change) -> Change:
    def change(config: Config) -> None:
        for one in changes:
            one(config)

    return change


def drop_general(config: Config) -> None:
    config.data.tasks["chat"].general = False


MIX = "curriculum.phases.mix"
RULES: list[tuple[Change, str, str, str, str]] = [
    # change, where, seen, rule, part of the remedy
    (put("run_name", " "), "run_name", "empty", "a run is kept under it", "Set run_name"),
    (put("output_dir", ""), "output_dir", "empty", "a run is kept under it", "Set output_dir"),
    # curriculum
    (put("curriculum.phases", {}), "curriculum.phases", "no phase", "a run needs one", "=full"),
    (
        put("curriculum.select", {"nosuch": {}}),
        "+phase=nosuch",
        "the curriculum has no phase 'nosuch'",
        "its phases are mix",
        "'+phase@curriculum.phases.nosuch=nosuch'",
    ),
    (
        put(f"{MIX}.steps", 3),
        f"{MIX}.epochs/steps/tokens",
        "epochs and steps given",
        "a phase is exactly one of epochs, steps and tokens long",
        "Set the others to null",
    ),
    (
        put(f"{MIX}.epochs", None),
        f"{MIX}.epochs/steps/tokens",
        "none of them given",
        "a phase is exactly one of epochs, steps and tokens long",
        f"Set {MIX}.epochs=1",
    ),
    (put(f"{MIX}.epochs", 0.0), f"{MIX}.epochs", "0", "it must be above 0", ""),
    (
        both(put(f"{MIX}.epochs", None), put(f"{MIX}.steps", -2)),
        f"{MIX}.steps",
        "-2",
        "it must be above 0",
        "",
    ),
    (
        both(put(f"{MIX}.epochs", None), put(f"{MIX}.tokens", 0)),
        f"{MIX}.tokens",
        "0",
        "it must be above 0",
        "",
    ),
    (put(f"{MIX}.lr", 0.0), f"{MIX}.lr", "0", "it must be above 0", ""),
    (put(f"{MIX}.lr", -1e-4), f"{MIX}.lr", "-0.0001", "it must be above 0", ""),
    (put(f"{MIX}.block_rows", 0), f"{MIX}.block_rows", "0", "it must be at least 1", ""),
    *(
        (put(f"{MIX}.schedule.{name}", 1.5), f"{MIX}.schedule.{name}", "1.5", "in [0, 1]", "")
        for name in ("warmup_ratio", "decay_ratio", "end_ratio")
    ),
    (
        put(f"{MIX}.schedule.warmup_steps", -1),
        f"{MIX}.schedule.warmup_steps",
        "-1",
        "it must be at least 0",
        "",
    ),
    (put(f"{MIX}.replay", -0.1), f"{MIX}.replay", "-0.1", "it must be in [0, 1)", ""),
    (
        both(put(f"{MIX}.tasks", ["hard"]), put(f"{MIX}.rest_share", -0.1)),
        f"{MIX}.rest_share",
        "-0.1",
        "it must be in [0, 1)",
        "",
    ),
    (
        both(put(f"{MIX}.tasks", ["hard"]), put(f"{MIX}.rest_share", 0.7)),
        MIX,
        "replay 0.3 + rest_share 0.7",
        "together they must leave room for the phase's own tasks",
        "",
    ),
    # the tasks of a phase
    (
        put(f"{MIX}.tasks", ["cod"]),
        f"{MIX}.tasks",
        "names 'cod', which is no task and no group",
        "defined: all, chat, code, general, hard, qa",
        "Did you mean 'code'?",
    ),
    (
        put(f"{MIX}.tasks", ["zzz"]),
        f"{MIX}.tasks",
        "names 'zzz', which is no task and no group",
        "defined: all, chat, code, general, hard, qa",
        "'data.groups.zzz=[...]'",
    ),
    (
        both(put("data.groups.hard", ["aimee"]), put(f"{MIX}.tasks", ["hard"])),
        "data.groups.hard",
        "names 'aimee', which no conf/task file defines",
        "defined: chat, code, qa",
        "Correct the name",
    ),
    (
        drop_general,
        f"{MIX}.replay",
        "0.3, but no task is general",
        "replay draws rows from general tasks",
        f"Set {MIX}.replay=0, or mark a task: data.tasks.chat.general=true.",
    ),
    (put(f"{MIX}.tasks", []), f"{MIX}.tasks", "[] holds no task", "at least one", "'all'"),
    (
        put(f"{MIX}.tasks", ["all", "chat"]),
        f"{MIX}.tasks",
        "chat is general and listed",
        "replay would draw it twice",
        "Set replay to 0",
    ),
    (
        put(f"{MIX}.rest_share", 0.2),
        f"{MIX}.rest_share",
        "0.2, but the phase already has every specialised task",
        "it draws from the tasks not listed",
        "Set it to 0",
    ),
    (
        put(f"{MIX}.loss_weights", {"cod": 1.0}),
        f"{MIX}.loss_weights",
        "names 'cod', which no conf/task file defines",
        "defined: chat, code, qa",
        "",
    ),
    (
        put(f"{MIX}.loss_weights", {"qa": -1.0}),
        f"{MIX}.loss_weights.qa",
        "-1",
        "it must be at least 0",
        "",
    ),
    # balance
    (
        put(f"{MIX}.balance", BalanceConfig(Strategy.caps, min_rows=0)),
        f"{MIX}.balance.min_rows",
        "0",
        "it must be at least 1",
        "",
    ),
    (
        put(f"{MIX}.balance", BalanceConfig(Strategy.caps, max_rows=0)),
        f"{MIX}.balance.max_rows",
        "0",
        "it must be at least 1",
        "",
    ),
    (
        put(f"{MIX}.balance", BalanceConfig(Strategy.caps, min_rows=9, max_rows=8)),
        f"{MIX}.balance.min_rows",
        "9",
        "it must not exceed max_rows (8)",
        "",
    ),
    (
        put(f"{MIX}.balance.max_rows", 5),
        f"{MIX}.balance",
        "caps are set, but strategy is natural",
        "only strategy 'caps' uses them",
        "Set strategy: caps",
    ),
    (
        put(f"{MIX}.balance.weights", {"qa": 1.0, "code": 1.0}),
        f"{MIX}.balance",
        "weights are set, but strategy is natural",
        "only strategy 'weights' uses them",
        "Set strategy: weights",
    ),
    (
        put(f"{MIX}.balance", BalanceConfig(Strategy.weights, weights={"qa": 1.0, "chat": 1.0})),
        f"{MIX}.balance.weights",
        "missing ['code'], not of the phase ['chat']",
        "one weight for every task of the phase",
        "",
    ),
    (
        put(f"{MIX}.balance", BalanceConfig(Strategy.weights, weights={"qa": 1.0, "code": 0.0})),
        f"{MIX}.balance.weights.code",
        "0",
        "it must be above 0",
        "Leave the task out",
    ),
    # batch
    (put("micro_batch_size", 0), "micro_batch_size", "0", "it must be at least 1", ""),
    (put("global_batch_size", 0), "global_batch_size", "0", "it must be at least 1", ""),
    # data
    (put("data.max_seq_len", 7), "data.max_seq_len", "7", "it must be at least 8", ""),
    (put("data.rows_per_task", 0), "data.rows_per_task", "0", "it must be at least 1", ""),
    (
        put("data.max_reject_ratio", 1.1),
        "data.max_reject_ratio",
        "1.1",
        "it must be in [0, 1]",
        "",
    ),
    (
        put("data.tasks", {}),
        "data.tasks",
        "no task under data",
        "a run needs one",
        "data.discover=true",
    ),
    (
        put("data.groups.qa", ["code"]),
        "data.tasks.qa",
        "also the name of a group",
        "a phase must be able to tell them apart",
        "Rename the task or the group.",
    ),
    (
        put("data.tasks.all", TaskConfig({"main": SourceConfig("train/qa.jsonl")})),
        "data.tasks.all",
        "also the name of a group",
        "a phase must be able to tell them apart",
        "Rename",
    ),
    (
        put("data.tasks.general", TaskConfig({"main": SourceConfig("train/qa.jsonl")})),
        "data.tasks.general",
        "also the name of a group",
        "a phase must be able to tell them apart",
        "or set general=true",
    ),
    (
        put("data.tasks.qa.max_new_tokens", 0),
        "data.tasks.qa.max_new_tokens",
        "0",
        "it must be at least 1",
        "",
    ),
    (
        put("data.tasks.qa.source.eval", "eval/nosuch.jsonl"),
        "data.tasks.qa.source.eval",
        f"no file {Path('data/eval/nosuch.jsonl')}",
        "evaluation reads it",
        "data.tasks.qa.source.eval=''",
    ),
    (put("data.root", "nosuch"), "data.root", "nosuch", "no such directory", "train/ and eval/"),
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
            ("logging.console_seconds", 0),
            ("cluster.process_group_timeout_s", 1),
            ("cluster.threads_per_rank", 1),
            ("limits.steps_per_phase", 1),
        )
    ),
]


def test_a_sound_configuration_passes(config: Config) -> None:
    validate(config, 1)
    validate(config, 8)


@pytest.mark.parametrize(
    ("change", "where", "seen", "rule", "remedy"),
    RULES,
    ids=[f"{number}-{rule[1]}" for number, rule in enumerate(RULES)],
)
def test_rule(
    config: Config, change: Change, where: str, seen: str, rule: str, remedy: str
) -> None:
    change(config)
    (fault,) = faults_of(config)
    assert (fault.where, fault.seen) == (where, seen)
    assert rule in fault.rule
    assert remedy in fault.remedy
    assert str(fault).startswith(f"{where}: {seen}; ")


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


def test_only_phases_that_run_are_judged(config: Config) -> None:
    config.curriculum.phases["other"] = PhaseConfig(tasks=["nosuch"], epochs=1.0, lr=-1.0)
    assert {fault.where.split(".")[2] for fault in faults_of(config)} == {"other"}
    config.curriculum.select = {"mix": {}}
    validate(config, 1)


def test_a_missing_root_is_one_fault_and_not_many(config: Config) -> None:
    config.data.root, config.data.tasks, config.data.groups = "nosuch", {}, {}
    (fault,) = faults_of(config)
    assert fault.where == "data.root"


def test_evaluation_files_do_not_matter_without_evaluation(config: Config) -> None:
    config.data.tasks["qa"].source.eval = "eval/nosuch.jsonl"
    config.evaluation.before_training = False
    assert [fault.where for fault in faults_of(config)] == ["data.tasks.qa.source.eval"]
    config.evaluation.at_phase_end = False
    validate(config, 1)


def test_hub_names_are_left_to_the_loader(config: Config) -> None:
    config.model.path = "Qwen/Qwen2.5-7B"
    validate(config, 1)


def test_the_benchmark_makes_its_root(config: Config) -> None:
    config.data.root, config.data.benchmark = "nosuch", BenchmarkSpec()
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
        *("optimizer.beta1", "data.root", "model.path", f"{MIX}.lr", "global_batch_size"),
        "limits.steps_per_phase",
    }
