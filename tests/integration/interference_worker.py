"""What the ranks of test_interference do: they train with and without measurements beside it.

Every case (ZeRO stage, precision, packing, adaptation, ranks that share sequences, ranks that hold a copy
of the weights) of the file that ``PROBE_CASES`` names is run in one process group, on the same tiny model
and the data below ``PROBE_ROOT``. The file that ``PROBE_RESULTS`` names gets what they left.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from transformers import AutoConfig, AutoModelForCausalLM

import trainer.engine
from data_modules.config import BoundaryConfig, SourceConfig, TaskConfig
from data_modules.mixture import MixtureConfig
from data_modules.phase_data_module import PhaseDataModule
from tests.shared_data import CHATML, byte_tokenizer, data_config, write_rows
from trainer import attention, distributed
from trainer.config.schema import AdaptationKind, Config, Normalization, Precision
from trainer.engine import ZeroEngine
from trainer.evaluation.train_losses import train_losses
from trainer.interference.watch import GradientProbe, entry_of
from trainer.loss import SupervisedHead
from trainer.model import adapt
from trainer.objective import row_weights

STEPS, ROWS_PER_TASK, GLOBAL_BATCH, SEED = 2, 9, 8, 3
LR = 1e-2
SIZES = {"copy": 12, "long": 12, "twin": 12, "few": 3}
# ZeRO-3 keeps small parameters whole; here all are small, and all are to be partitioned.
PERSISTENT = 0


def write_data(root: Path) -> None:
    """Files of four tasks with answers of differing lengths; their samples are prepared."""
    for task, size in SIZES.items():
        rows = [
            {
                "instruction": f"{task} {'abcdefghij'[row % 10]}" + "x" * (5 * row % 7),
                "output": (f"{task[::-1]} {row} " * (1 + row % 3)).strip(),
            }
            for row in range(size)
        ]
        write_rows(root / f"train/{task}.jsonl", rows)
    made_data(root, packing=True).prepare()


def made_data(root: Path, packing: bool) -> PhaseDataModule:
    """The data module; :func:`write_data` was there before."""
    tasks = {
        task: TaskConfig(
            sources={"main": SourceConfig(train=f"train/{task}.jsonl")}, tag=f"[{task}]"
        )
        for task in SIZES
    }
    return PhaseDataModule(
        data=data_config(root, tasks, packing=packing),
        boundary=BoundaryConfig(),
        mixtures={"mix": MixtureConfig(epochs=2)},
        tokenizer=byte_tokenizer(CHATML),
        seed=SEED,
        global_batch_size=GLOBAL_BATCH,
    )


def tiny_model(implementation: str, dropout: float = 0.0) -> Any:
    """The same weights every time; output and input embeddings are one."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(
        "qwen2",
        vocab_size=264,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        attention_dropout=dropout,
        tie_word_embeddings=True,
    )
    return AutoModelForCausalLM.from_config(
        config, dtype=torch.float32, attn_implementation=implementation
    )


def settings(case: dict[str, Any]) -> Config:
    """The configuration of a case."""
    config = Config(seed=SEED)
    config.precision = Precision[case["precision"]]
    config.zero.stage = case["stage"]
    config.zero.hpz_partition_size = case["hpz"]
    config.micro_batch_size = 2
    config.sequence_parallel_size = case["sequence"]
    config.data.packing = case["packing"]
    config.optimizer.weight_decay = 0.1
    config.interference.rows_per_task = ROWS_PER_TASK
    if case["lora"]:
        config.adaptation.kind = AdaptationKind.lora
    return config


def digest_of(engine: ZeroEngine) -> str:
    """Of this rank's weights, master weights, moments, gradients and random numbers, to the last bit."""
    digest = hashlib.sha256()

    def add(tensor: torch.Tensor) -> None:
        digest.update(tensor.detach().contiguous().cpu().view(torch.uint8).numpy().tobytes())

    for name, parameter in engine.module.named_parameters():
        digest.update(name.encode())
        add(getattr(parameter, "ds_tensor", parameter).reshape(-1))
        if parameter.grad is not None:
            add(parameter.grad.reshape(-1))
    for optimizer in (engine.optimizer, engine.base_optimizer):
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                add(parameter.reshape(-1))
    moments = 0
    for state in engine.base_optimizer.state.values():
        for value in state.values():
            if torch.is_tensor(value):
                add(value.reshape(-1))
                moments += value.numel()
    assert moments, "there are moments"
    digest.update(torch.get_rng_state().numpy().tobytes())
    return digest.hexdigest()


def run(
    case: dict[str, Any], data: PhaseDataModule, ranks: distributed.Ranks, measured: bool
) -> dict[str, Any]:
    """Train a few steps; with ``measured``, measure before, after and between them."""
    config = settings(case)
    model = tiny_model(attention.NAME, case["dropout"])
    SupervisedHead.adopt(model.get_output_embeddings())
    if case["checkpointing"]:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    torch.manual_seed(1)
    model = adapt(model, config.adaptation)
    device = torch.device("cpu")
    engine = ZeroEngine(model, len(data.tasks), config, device, ranks.world_size)
    torch.manual_seed(2)
    found: dict[str, Any] = {"steps": [], "digests": [], "entries": [], "train": []}
    probe = GradientProbe(engine, data, config, ranks.rank) if measured else None

    def measure(step: int) -> None:
        if probe is None:
            return
        found["entries"].append(entry_of(probe.measure("mix"), "mix", step))
        losses = train_losses(engine, data, "mix", ROWS_PER_TASK, SEED, 4, ranks.rank)
        found["train"].append(asdict(losses))

    measure(0)
    plan = data.plans["mix"]
    for step in range(STEPS):
        rows = plan.step_rows(step)
        weights = row_weights(
            Normalization.token,
            {},
            data.tasks,
            data.tasks,
            plan.store.task_ids[rows],
            plan.store.answer_tokens[rows],
            plan.store.signs[rows],
            0.0,
        )
        batches = data.step_batches(
            "mix",
            step,
            weights,
            ranks.rank,
            ranks.world_size,
            config.micro_batch_size,
            case["sequence"],
        )
        found["steps"].append(list(engine.train_step(batches, LR).read()))
        measure(step + 1)
        found["digests"].append(digest_of(engine))
    every: list[Any] = [None] * ranks.world_size
    dist.all_gather_object(every, found)
    # What is measured must be the same on every rank.
    for name in ("entries", "train"):
        assert all(one[name] == found[name] for one in every), name
    return {**found, "digests": [one["digests"] for one in every]}


def command(config: Config) -> None:
    """Run the cases; the main rank writes the results."""
    root = Path(os.environ["PROBE_ROOT"])
    cases = json.loads(Path(os.environ["PROBE_CASES"]).read_text(encoding="utf-8"))
    ranks = distributed.ranks_from_environment()
    torch.set_num_threads(1)
    distributed.init(config.cluster, ranks)
    made = trainer.engine.deepspeed_config

    def all_partitioned(config: Config, world_size: int) -> dict[str, Any]:
        built = made(config, world_size)
        if config.zero.stage == 3:
            built["zero_optimization"]["stage3_param_persistence_threshold"] = PERSISTENT
        return built

    trainer.engine.deepspeed_config = all_partitioned
    results = []
    for case in cases:
        data = made_data(root, case["packing"])
        data.load()
        results.append([run(case, data, ranks, measured) for measured in (False, True)])
    if ranks.is_main:
        Path(os.environ["PROBE_RESULTS"]).write_text(json.dumps(results), encoding="utf-8")
