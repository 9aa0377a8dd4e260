"""Started under torchrun by test_veto_engine: what a vetoed step leaves behind, stage by stage.

Every case trains the same good steps twice, once with a bad step in between that the other run never
sees, and says whether both stand in the same place to the last bit, on every rank.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from engine_worker import CODE, LR, MATH, QA, STORE, batches, small_model

from data_modules.collate import Batch
from trainer import attention, distributed
from trainer.config.schema import Config, Offload, Precision
from trainer.engine import StepFigures, ZeroEngine
from trainer.guard.limit import NO_LIMIT, Limit
from trainer.loss import SupervisedHead

LAYOUT = {"micro": 2, "packing": False}
GOOD = [CODE + MATH + QA, [0, 2, 5, 8, 12], MATH + QA]
BAD = [1, 3, 4, 6, 9, 11]

Step = Callable[[ZeroEngine, distributed.Ranks], StepFigures]


def made_engine(case: dict[str, Any], ranks: distributed.Ranks, device: torch.device) -> ZeroEngine:
    config = Config()
    config.precision = Precision[case["precision"]]
    config.zero.stage = case["stage"]
    config.zero.offload_optimizer = Offload[case["offload"]]
    config.micro_batch_size = LAYOUT["micro"]
    config.optimizer.weight_decay = 0.1
    config.optimizer.max_grad_norm = case["max_grad_norm"]
    model = small_model(attention.NAME)
    SupervisedHead.adopt(model.get_output_embeddings())
    return ZeroEngine(model, len(STORE.tasks), config, device, ranks.world_size)


def of_step(rows: list[int], ranks: distributed.Ranks) -> list[Batch]:
    return batches("token", np.array(rows), LAYOUT, ranks)


def good(rows: list[int], limit: Limit = NO_LIMIT) -> Step:
    return lambda engine, ranks: engine.train_step(of_step(rows, ranks), LR, limit).read()


def loss_is_nan(engine: ZeroEngine, ranks: distributed.Ranks) -> StepFigures:
    """One token of the last rank weighs NaN, in its last micro-batch."""
    mine = of_step(BAD, ranks)
    if ranks.rank == ranks.world_size - 1:
        weights = mine[-1].loss_weights.clone()
        weights[mine[-1].labels >= 0] = float("nan")
        mine[-1] = replace(mine[-1], loss_weights=weights)
    return engine.train_step(mine, LR).read()


def gradient_is_inf(engine: ZeroEngine, ranks: distributed.Ranks) -> StepFigures:
    """One number of one gradient of the last rank is infinite; every loss is finite."""
    with spoilt(engine, ranks):
        return engine.train_step(of_step(BAD, ranks), LR).read()


@contextmanager
def spoilt(engine: ZeroEngine, ranks: distributed.Ranks) -> Iterator[None]:
    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        gradient.view(-1)[3] = float("inf")
        return gradient

    weight = engine.causal_model.base_model.layers[1].mlp.down_proj.weight
    here = ranks.rank == ranks.world_size - 1
    hook = weight.register_hook(spoil) if here else None
    try:
        yield
    finally:
        if hook is not None:
            hook.remove()


def loss_jumps(engine: ZeroEngine, ranks: distributed.Ranks) -> StepFigures:
    return good(BAD, Limit((0, 2), tokens=10, expected=0.1, most=1.0))(engine, ranks)


FAULTS: dict[str, Step] = {
    "loss_is_nan": loss_is_nan,
    "gradient_is_inf": gradient_is_inf,
    "loss_jumps": loss_jumps,
}


def state_of(engine: ZeroEngine) -> list[torch.Tensor]:
    """All that training changes on this rank: weights, master weights, moments, step counts."""
    base = engine.base_optimizer
    found = [p.ds_tensor if hasattr(p, "ds_tensor") else p for p in engine.module.parameters()]
    found += [p for group in base.param_groups for p in group["params"]]
    found += [
        group
        for name in ("fp32_partitioned_groups_flat", "single_partition_of_fp32_groups")
        for group in getattr(engine.optimizer, name, [])
    ]
    for state in base.state.values():
        found += [value for value in state.values() if torch.is_tensor(value)]
    return [tensor.detach().clone() for tensor in found]


def equal(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return len(one) == len(other) and all(map(torch.equal, one, other))


def run(case: dict[str, Any], ranks: distributed.Ranks, device: torch.device) -> dict[str, Any]:
    """What became of a case on this rank."""
    plain = made_engine(case, ranks, device)
    expected = []
    for rows in GOOD:
        figures = good(rows)(plain, ranks)
        expected.append((figures, state_of(plain)))
    result: dict[str, Any] = {}
    for name, bad in FAULTS.items():
        engine = made_engine(case, ranks, device)
        place = case["place"]
        kept, same, found = True, True, None
        for number, rows in enumerate(GOOD):
            if number == place:
                before = state_of(engine)
                found = bad(engine, ranks)
                after = state_of(engine)
                # before the first update AdamW has no moments yet: a vetoed one makes them, all zero
                kept = equal(before, after[: len(before)])
                kept &= all(not tensor.any() for tensor in after[len(before) :])
            figures = good(rows, Limit((0, 1, 2), most=math.inf))(engine, ranks)
            same &= equal(state_of(engine), expected[number][1]) and figures == expected[number][0]
        result[name] = {"kept": kept, "same": same, "figures": list(found or [])}
    states = [state for _, state in expected]
    result["moves"] = not equal(states[0], states[1]) and not equal(states[1], states[2])
    result["kind"] = type(plain.optimizer).__name__
    return result


def main() -> None:
    """Run the cases; the main rank writes what every rank found."""
    cases = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    ranks = distributed.ranks_from_environment()
    torch.set_num_threads(1)
    device = distributed.init(Config().cluster, ranks)
    results = []
    for case in cases:
        found: list[Any] = [None] * ranks.world_size
        dist.all_gather_object(found, run(case, ranks, device))
        results.append(found)
    if ranks.is_main:
        Path(sys.argv[2]).write_text(json.dumps(results), encoding="utf-8")
    distributed.shutdown()


if __name__ == "__main__":
    main()
