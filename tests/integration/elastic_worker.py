"""What the ranks of test_elastic_state do: engines whose state is saved, and restored into others.

The file that ``ELASTIC_JOBS`` names has jobs ``{"kind", "into", "folder"}``, which are done in one process
group. Without ``into`` an engine of a kind is trained, its state saved, and trained on; with it, the state
is restored into an engine of that kind, which is trained on. Every job leaves in ``folder`` a file of JSON
with what it saw, and a file with the whole state as the live engine has it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from engine_worker import STEPS, STORE, batches, small_model
from safetensors.torch import save_file

import trainer.engine
from trainer import attention, distributed
from trainer.checkpoint.folder import check_content, check_sizes, read_marker, step_name
from trainer.checkpoint.live_state import (
    MASTER,
    MOMENTS,
    adam_step,
    frozen_checksum,
    held_fragments,
    owned_fragments,
)
from trainer.checkpoint.reader import restore
from trainer.checkpoint.trainer_state import TrainedPhase, TrainerState, read_state
from trainer.checkpoint.writer import Writer
from trainer.config.schema import AdaptationKind, Config, Offload, Precision
from trainer.engine import ZeroEngine
from trainer.loss import SupervisedHead
from trainer.model import adapt

SAVED, LAST = 3, 6  # steps
CASE = {"micro": 2, "packing": False}
COMPUTED = "computed"  # the weights that the model computes with
LR = 3e-3


def made_engine(kind: dict[str, Any], ranks: distributed.Ranks, device: torch.device) -> ZeroEngine:
    """An engine of a kind, with the same weights every time."""
    config = Config()
    config.precision = Precision[kind["precision"]]
    config.zero.stage = kind["stage"]
    config.micro_batch_size = CASE["micro"]
    config.optimizer.weight_decay = 0.1
    config.sequence_parallel_size = kind.get("sequence", 1)
    config.zero.hpz_partition_size = kind.get("hpz", 1)
    if kind.get("offload"):
        config.zero.offload_optimizer = Offload.cpu
        if kind["stage"] == 3:
            config.zero.offload_parameters = Offload.cpu
    model = small_model(attention.NAME)
    SupervisedHead.adopt(model.get_output_embeddings())
    if kind.get("lora"):
        config.adaptation.kind = AdaptationKind.lora
        torch.manual_seed(1)
        model = adapt(model, config.adaptation)
        # peft starts one half of each adapter at zero, where much of a mistake would not show
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(parameter, std=0.05)
    with all_partitioned() if "hpz" in kind else nullcontext():
        return ZeroEngine(model, len(STORE.tasks), config, device, ranks.world_size)


@contextmanager
def all_partitioned() -> Iterator[None]:
    """ZeRO-3 keeps small parameters whole, and here all are small: inside, it keeps none."""
    made = trainer.engine.deepspeed_config

    def built(config: Config, world_size: int) -> dict[str, Any]:
        settings = made(config, world_size)
        settings["zero_optimization"]["stage3_param_persistence_threshold"] = 0
        return settings

    trainer.engine.deepspeed_config = built
    yield
    trainer.engine.deepspeed_config = made


def train(
    engine: ZeroEngine, first: int, last: int, ranks: distributed.Ranks, parts: int
) -> list[list[Any]]:
    """The figures of steps ``first`` to ``last``, counted from 1."""
    found = []
    for normalization, rows in STEPS[first - 1 : last]:
        made = batches(normalization, np.array(rows), {**CASE, "sequence": parts}, ranks)
        found.append(list(engine.train_step(made, LR).read()))
    return found


def whole_state(engine: ZeroEngine) -> dict[str, torch.Tensor]:
    """``kind:parameter`` -> flattened, gathered from all ranks; every element must come from one."""
    mine = [
        (f"{kind}:{one.name}", one.start, tensor.detach().float().cpu().clone())
        for one in held_fragments(engine)
        for kind, tensor in one.tensors.items()
    ]
    if engine.stage == 0 and dist.get_rank() > 0:
        mine = []  # every rank has all of it
    parts: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(parts, mine)
    sizes = {
        name: getattr(parameter, "ds_numel", parameter.numel())
        for name, parameter in engine.module.named_parameters()
    }
    found: dict[str, torch.Tensor] = {}
    counts: dict[str, torch.Tensor] = {}
    for key, start, tensor in (one for part in parts for one in part):
        numel = sizes[key.partition(":")[2]]
        stop = start + len(tensor)
        found.setdefault(key, torch.zeros(numel))[start:stop] = tensor
        counts.setdefault(key, torch.zeros(numel))[start:stop] += 1
    assert all(bool((count == 1).all()) for count in counts.values())
    for name, parameter in engine.module.named_parameters():
        with engine.whole_parameter(parameter):
            found[f"{COMPUTED}:{name}"] = parameter.detach().float().cpu().flatten().clone()
    return found


def check_with_deepspeed(engine: ZeroEngine, state: dict[str, torch.Tensor]) -> None:
    """The state must be what DeepSpeed's own access to it says; it sees moments in stage 3 alone."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad and engine.stage:
            theirs = {MASTER: safe_get_full_fp32_param(parameter)}
            if engine.stage == 3:
                theirs |= {key: safe_get_full_optimizer_state(parameter, key) for key in MOMENTS}
            for key, value in theirs.items():
                assert torch.equal(state[f"{key}:{name}"], value.float().cpu().flatten()), (
                    key,
                    name,
                )


@contextmanager
def changed(engine: ZeroEngine, swap: bool) -> Iterator[None]:
    """Inside, one frozen weight is another, or two are swapped."""
    parameter = next(one for one in engine.module.parameters() if not one.requires_grad)
    values: Any = parameter.ds_tensor if engine.stage == 3 else parameter
    values = values.data.view(-1)
    before = values.clone()
    if engine.stage < 3 or dist.get_rank() == 0:
        values[:2] = before[:2].flip(0) if swap else before[:2] * torch.tensor([1.0, 2.0])
    yield
    values.copy_(before)


def state_of(engine: ZeroEngine, ranks: distributed.Ranks) -> TrainerState:
    phase = TrainedPhase("mix", 1, LAST, "", {})
    return TrainerState(
        global_step=SAVED,
        phases=[phase],
        settings={},
        model={},
        parameters={},
        frozen=frozen_checksum(engine),
        adam_step=adam_step(engine),
        world_size=ranks.world_size,
        zero_stage=engine.stage,
    )


def do(job: dict[str, Any], ranks: distributed.Ranks, device: torch.device) -> None:
    """One job; see the module."""
    folder, into = Path(job["folder"]), job.get("into")
    kind = into or job["kind"]
    engine, parts = made_engine(kind, ranks, device), kind.get("sequence", 1)
    seen: dict[str, Any] = {}
    if into is None:
        train(engine, 1, SAVED, ranks, parts)
        writer = Writer(folder, ranks.rank, ranks.world_size, "test", 1, 60.0)
        writer.save(owned_fragments(engine, ranks.rank, ranks.world_size), state_of(engine, ranks))
        state = whole_state(engine)
        check_with_deepspeed(engine, state)
        name = "saved"
    else:
        checkpoint = folder / step_name(SAVED)
        marker = read_marker(checkpoint)
        check_sizes(checkpoint, marker)
        check_content(checkpoint, marker, list(marker.files))
        restore(engine, checkpoint, marker, read_state(checkpoint))
        state = whole_state(engine)
        name = job["name"]
    seen["frozen"] = [frozen_checksum(engine)]
    if any(not one.requires_grad for one in engine.module.parameters()):
        for swap in (False, True):
            with changed(engine, swap):
                seen["frozen"].append(frozen_checksum(engine))
        seen["frozen"].append(frozen_checksum(engine))
    seen["adam_step"] = adam_step(engine)
    seen["figures"] = train(engine, SAVED + 1, LAST, ranks, parts)
    if into is None:
        writer.wait()
    if ranks.is_main:
        save_file(state, folder / f"{name}.safetensors")
        (folder / f"{name}.json").write_text(json.dumps(seen), encoding="utf-8")
    dist.barrier()


def command(config: Config) -> None:
    """Do the jobs in turn."""
    ranks = distributed.ranks_from_environment()
    torch.set_num_threads(1)
    device = distributed.init(config.cluster, ranks)
    for job in json.loads(Path(os.environ["ELASTIC_JOBS"]).read_text(encoding="utf-8")):
        do(job, ranks, device)
