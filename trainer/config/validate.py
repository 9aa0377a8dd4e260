"""Rules on values and between fields: every fault of the configuration, before data is read."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

from data_modules.faults import ConfigFault, Fault
from data_modules.mixture import BalanceConfig, Strategy
from data_modules.phase_data_module import resolve_roles
from trainer.config.schema import (
    AdaptationKind,
    Config,
    Init,
    Offload,
    PhaseConfig,
    Precision,
    ScheduleConfig,
)
from trainer.deepspeed_config import deepspeed_config


def validate(config: Config, dp_world_size: int) -> None:
    """Check the whole configuration.

    Raises:
        ConfigFault: listing every fault found.
    """
    faults = [
        *_run(config),
        *_data(config),
        *_curriculum(config),
        *_batch(config, dp_world_size),
        *_model(config),
        *_zero(config),
        *_updates(config),
        *_evaluation(config),
    ]
    if faults:
        raise ConfigFault(faults)


def _at_least(key: str, value: float | None, low: float, faults: list[Fault]) -> None:
    if value is not None and value < low:
        faults.append(Fault(key, f"{value:g}", f"it must be at least {low:g}"))


def _share(key: str, value: float, faults: list[Fault], below_one: bool = False) -> None:
    if not 0 <= value <= 1 or (below_one and value == 1):
        faults.append(Fault(key, f"{value:g}", f"it must be in [0, 1{')' if below_one else ']'}"))


def _run(config: Config) -> Iterator[Fault]:
    for key in ("run_name", "output_dir"):
        if not getattr(config, key).strip():
            yield Fault(key, "empty", "a run is kept under it", f"Set {key}=...")


def _curriculum(config: Config) -> Iterator[Fault]:
    phases, select = config.curriculum.phases, config.curriculum.select
    if not phases:
        yield Fault("curriculum.phases", "no phase", "a run needs one", "Try curriculum=full.")
    for name in select:
        if name not in phases:
            yield Fault(
                f"+phase={name}",
                f"the curriculum has no phase '{name}'",
                f"its phases are {', '.join(phases) or 'none'}",
                f"Add it with '+phase@curriculum.phases.{name}={name}'.",
            )
    # A phase that does not run may refer to tasks that these data do not have.
    for name in select or phases:
        if name in phases:
            yield from _phase(config, f"curriculum.phases.{name}", phases[name])


def _phase(config: Config, key: str, phase: PhaseConfig) -> Iterator[Fault]:
    faults: list[Fault] = []
    lengths = {"epochs": phase.epochs, "steps": phase.steps, "tokens": phase.tokens}
    given = [name for name, value in lengths.items() if value is not None]
    if len(given) != 1:
        seen = f"{' and '.join(given) or 'none of them'} given"
        rule = "a phase is exactly one of epochs, steps and tokens long"
        remedy = "Set the others to null." if given else f"Set {key}.epochs=1, for example."
        faults.append(Fault(f"{key}.epochs/steps/tokens", seen, rule, remedy))
    for name in given:
        if lengths[name] <= 0:  # type: ignore[operator]
            faults.append(Fault(f"{key}.{name}", f"{lengths[name]:g}", "it must be above 0"))
    if phase.lr <= 0:
        faults.append(Fault(f"{key}.lr", f"{phase.lr:g}", "it must be above 0"))
    _at_least(f"{key}.block_rows", phase.block_rows, 1, faults)
    _schedule(f"{key}.schedule", phase.schedule, faults)
    _share(f"{key}.replay", phase.replay, faults, below_one=True)
    _share(f"{key}.rest_share", phase.rest_share, faults, below_one=True)
    if phase.replay + phase.rest_share >= 1:
        seen = f"replay {phase.replay:g} + rest_share {phase.rest_share:g}"
        faults.append(Fault(key, seen, "together they must leave room for the phase's own tasks"))
    yield from faults
    if not config.data.tasks or (config.data.discover and not _has_root(config)):
        return  # one fault of the data, not one of every phase
    unknown = list(_unknown_tasks(config, key, phase))
    yield from unknown or _phase_tasks(config, key, phase)


def _schedule(key: str, schedule: ScheduleConfig, faults: list[Fault]) -> None:
    _share(f"{key}.warmup_ratio", schedule.warmup_ratio, faults)
    _share(f"{key}.decay_ratio", schedule.decay_ratio, faults)
    _share(f"{key}.end_ratio", schedule.end_ratio, faults)
    _at_least(f"{key}.warmup_steps", schedule.warmup_steps, 0, faults)


def _unknown_tasks(config: Config, key: str, phase: PhaseConfig) -> Iterator[Fault]:
    data = config.data
    known = sorted({*data.tasks, *data.groups, "all", "general"})
    for name in phase.tasks:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            remedy = f"Did you mean '{close[0]}'? " if close else ""
            remedy += (
                f"A group is defined with 'data.groups.{name}=[...]', a task with a conf/task file "
                "that the data file lists."
            )
            seen = f"names '{name}', which is no task and no group"
            yield Fault(f"{key}.tasks", seen, f"defined: {', '.join(known)}", remedy)
    for group in phase.tasks:
        for name in data.groups.get(group, ()):
            if name not in data.tasks:
                yield Fault(
                    f"data.groups.{group}",
                    f"names '{name}', which no conf/task file defines",
                    f"defined: {', '.join(sorted(data.tasks))}",
                    "Correct the name or leave it out.",
                )


def _phase_tasks(config: Config, key: str, phase: PhaseConfig) -> Iterator[Fault]:
    data = config.data
    general = [name for name, task in data.tasks.items() if task.general]
    if phase.replay and not general:
        yield Fault(
            f"{key}.replay",
            f"{phase.replay:g}, but no task is general",
            "replay draws rows from general tasks",
            f"Set {key}.replay=0, or mark a task: data.tasks.{sorted(data.tasks)[0]}.general=true.",
        )
    roles = resolve_roles(data, phase)
    if not roles.main:
        yield Fault(
            f"{key}.tasks",
            f"{phase.tasks} holds no task",
            "a phase needs at least one",
            "Name tasks or a group; 'all' is every task that is not general.",
        )
    both = sorted(set(roles.main) & set(roles.general))
    if both:
        seen = f"{', '.join(both)} is general and listed"
        yield Fault(f"{key}.tasks", seen, "replay would draw it twice", "Set replay to 0.")
    if phase.rest_share and not roles.rest:
        seen = f"{phase.rest_share:g}, but the phase already has every specialised task"
        yield Fault(f"{key}.rest_share", seen, "it draws from the tasks not listed", "Set it to 0.")
    yield from _balance(f"{key}.balance", phase.balance, roles.main)
    for name in phase.loss_weights:
        if name not in data.tasks:
            seen = f"names '{name}', which no conf/task file defines"
            yield Fault(f"{key}.loss_weights", seen, f"defined: {', '.join(sorted(data.tasks))}")
        elif phase.loss_weights[name] < 0:
            seen = f"{phase.loss_weights[name]:g}"
            yield Fault(f"{key}.loss_weights.{name}", seen, "it must be at least 0")


def _balance(key: str, balance: BalanceConfig, tasks: tuple[str, ...]) -> Iterator[Fault]:
    faults: list[Fault] = []
    _at_least(f"{key}.min_rows", balance.min_rows, 1, faults)
    _at_least(f"{key}.max_rows", balance.max_rows, 1, faults)
    low, high = balance.min_rows, balance.max_rows
    capped = low is not None or high is not None
    if low is not None and high is not None and low > high:
        faults.append(Fault(f"{key}.min_rows", f"{low}", f"it must not exceed max_rows ({high})"))
    if capped and balance.strategy is not Strategy.caps:
        seen = f"caps are set, but strategy is {balance.strategy.value}"
        faults.append(Fault(key, seen, "only strategy 'caps' uses them", "Set strategy: caps."))
    if balance.weights and balance.strategy is not Strategy.weights:
        seen = f"weights are set, but strategy is {balance.strategy.value}"
        rule = "only strategy 'weights' uses them"
        faults.append(Fault(key, seen, rule, "Set strategy: weights."))
    if balance.strategy is Strategy.weights and set(balance.weights) != set(tasks):
        missing = sorted(set(tasks) - set(balance.weights))
        extra = sorted(set(balance.weights) - set(tasks))
        seen = f"missing {missing}, not of the phase {extra}"
        faults.append(Fault(f"{key}.weights", seen, "one weight for every task of the phase"))
    for name, weight in balance.weights.items():
        if weight <= 0:
            remedy = "Leave the task out of the phase instead of giving it no weight."
            faults.append(
                Fault(f"{key}.weights.{name}", f"{weight:g}", "it must be above 0", remedy)
            )
    yield from faults


def _batch(config: Config, dp_world_size: int) -> Iterator[Fault]:
    faults: list[Fault] = []
    _at_least("micro_batch_size", config.micro_batch_size, 1, faults)
    _at_least("global_batch_size", config.global_batch_size, 1, faults)
    if not faults:
        unit = dp_world_size * (1 if config.data.packing else config.micro_batch_size)
        if config.global_batch_size % unit:
            of_what = f"{dp_world_size} ranks"
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


def _data(config: Config) -> Iterator[Fault]:
    data, faults = config.data, list[Fault]()
    _at_least("data.max_seq_len", data.max_seq_len, 8, faults)
    _at_least("data.rows_per_task", data.rows_per_task, 1, faults)
    _share("data.max_reject_ratio", data.max_reject_ratio, faults)
    if not _has_root(config):
        remedy = "Set data.root to the folder that holds train/ and eval/."
        faults.append(Fault("data.root", data.root, "no such directory", remedy))
    elif not data.tasks:
        remedy = "Choose data=..., or data.discover=true with train/<task>.jsonl under data.root."
        faults.append(Fault("data.tasks", f"no task under {data.root}", "a run needs one", remedy))
    for name, task in data.tasks.items():
        key = f"data.tasks.{name}"
        if name in data.groups or name == "all" or (name == "general" and not task.general):
            seen, rule = "also the name of a group", "a phase must be able to tell them apart"
            remedy = f"Rename the task or the group{', or set general=true' * (name == 'general')}."
            faults.append(Fault(key, seen, rule, remedy))
        _at_least(f"{key}.max_new_tokens", task.max_new_tokens, 1, faults)
        if _has_root(config) and data.benchmark is None and _evaluates(config):
            _readable(f"{key}.source.eval", Path(data.root), "", faults)
    yield from faults


def _has_root(config: Config) -> bool:
    """The benchmark makes its root itself."""
    return config.data.benchmark is not None or Path(config.data.root).is_dir()


def _evaluates(config: Config) -> bool:
    return config.evaluation.before_training or config.evaluation.at_phase_end


def _readable(key: str, root: Path, relative: str, faults: list[Fault]) -> None:
    """Evaluation files are read at phase ends; that they are missing must show before training."""
    if relative and not (root / relative).is_file():
        remedy = f"Correct it, or set {key}='' to leave the task out of evaluation."
        faults.append(Fault(key, f"no file {root / relative}", "evaluation reads it", remedy))


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
        _at_least(f"zero.{name}", getattr(zero, name), 1, faults)
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
    if optimizer.eps <= 0:
        faults.append(Fault("optimizer.eps", f"{optimizer.eps:g}", "it must be above 0"))
    _at_least("optimizer.weight_decay", optimizer.weight_decay, 0, faults)
    _at_least("optimizer.max_grad_norm", optimizer.max_grad_norm, 0, faults)
    if config.adaptation.kind is AdaptationKind.lora:
        _at_least("adaptation.rank", config.adaptation.rank, 1, faults)
        _at_least("adaptation.alpha", config.adaptation.alpha, 1, faults)
        _share("adaptation.dropout", config.adaptation.dropout, faults, below_one=True)
    yield from faults


def _evaluation(config: Config) -> Iterator[Fault]:
    faults: list[Fault] = []
    _at_least("evaluation.rows_per_task", config.evaluation.rows_per_task, 1, faults)
    _at_least("evaluation.batch_size", config.evaluation.batch_size, 1, faults)
    _at_least("logging.console_seconds", config.logging.console_seconds, 0, faults)
    _at_least("cluster.process_group_timeout_s", config.cluster.process_group_timeout_s, 1, faults)
    _at_least("limits.steps_per_phase", config.limits.steps_per_phase, 1, faults)
    _at_least("cluster.threads_per_rank", config.cluster.threads_per_rank, 1, faults)
    yield from faults
