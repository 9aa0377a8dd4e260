"""What meters cost: small steps with them and without take turns in one process.

torchrun --nproc-per-node 1 benchmarks/meter_overhead.py --steps 300

One model of some 0.9 million parameters in fp32, micro-batches of 4 x 32 tokens: the smaller a step, the
more its meters weigh. Prints one JSON object: CPU seconds (of all threads, which other programs on the
machine change little) of the median step of rank 0 with and without, and the median of what each pair of
neighbours differs by, as a share.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from transformers import AutoConfig, AutoModelForCausalLM

from data_modules.collate import collate
from data_modules.samples import Sample, SampleStore
from trainer import attention, distributed
from trainer.config.schema import Config, Precision, ZeroConfig
from trainer.engine import ZeroEngine
from trainer.loss import SupervisedHead
from trainer.meters.clock import Part, StepClock
from trainer.meters.memory import peak_memory
from trainer.meters.peaks import Peaks
from trainer.meters.throughput import Throughput
from trainer.step_data import StepData

VOCABULARY, ROWS, LENGTH = 512, 4, 32


class NoClock(StepClock):
    """A loop without meters: not even their contexts."""

    def inside(self, _: Part) -> Any:
        return nullcontext()


def made_engine(device: torch.device, world_size: int, stage: int) -> ZeroEngine:
    torch.manual_seed(0)
    described = AutoConfig.for_model(
        "llama",
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
    )
    model = AutoModelForCausalLM.from_config(
        described, dtype=torch.float32, attn_implementation=attention.NAME
    )
    SupervisedHead.adopt(model.get_output_embeddings())
    config = Config(precision=Precision.fp32, zero=ZeroConfig(stage=stage))
    return ZeroEngine(model, 1, config, device, world_size)


def made_step(rank: int, micro_steps: int) -> StepData:
    draw = np.random.default_rng(rank)
    mask = np.arange(LENGTH) > 0
    rows = [Sample("qa", draw.integers(0, VOCABULARY, LENGTH), mask) for _ in range(ROWS)]
    store = SampleStore.build(("qa",), rows)
    batch = collate(store, np.arange(ROWS), np.full(ROWS, 1e-3), 0, packing=False, empty=False)
    return StepData([batch] * micro_steps, ROWS * LENGTH, 1, 1, {"qa": ROWS}, {"qa": 1})


def metered(engine: ZeroEngine, step: StepData, throughput: Throughput) -> float:
    """Seconds of a step as the loop takes it."""
    start = time.process_time()
    clock = engine.clock
    clock.begin()
    with clock.inside(Part.data):
        pass
    sums = engine.train_step(step.batches, 1e-5)
    memory = peak_memory(engine.device)
    sums.read()
    parts = clock.end().read()
    values = throughput.rates(step, sum(parts.values()))
    values |= {f"time/{part}": seconds for part, seconds in parts.items()}
    values |= {f"memory/{kind}": peak for kind, peak in memory.items()}
    json.dumps(values)
    return time.process_time() - start


def bare(engine: ZeroEngine, step: StepData) -> float:
    """Seconds of the same step, and nothing else."""
    start = time.process_time()
    engine.train_step(step.batches, 1e-5).read()
    json.dumps({"tokens_per_second": step.tokens / (time.process_time() - start)})
    return time.process_time() - start


def measure(steps: int, stage: int, micro_steps: int) -> dict[str, float]:
    ranks = distributed.ranks_from_environment()
    config = Config()
    config.cluster.threads_per_rank = 1
    distributed.set_threads(config.cluster, ranks)
    device = distributed.init(config.cluster, ranks)
    engine = made_engine(device, ranks.world_size, stage)
    step = made_step(ranks.rank, micro_steps)
    throughput = Throughput.of(engine.shape, Peaks("", None, 1e9), ranks.world_size)
    clock, timed = engine.clock, engine._timed_communication
    without = NoClock.of(device)
    times: dict[bool, list[float]] = {True: [], False: []}
    for number in range(2 * steps + 20):
        on = number % 4 in (
            0,
            3,
        )  # on, off, off, on: a drift of the machine's speed hits both alike
        engine.clock = clock if on else without
        engine._timed_communication = timed if on else nullcontext  # type: ignore[method-assign]
        seconds = metered(engine, step, throughput) if on else bare(engine, step)
        if number >= 20:
            times[on].append(seconds)
    pairs = zip(times[True], times[False], strict=True)
    difference = statistics.median(on - off for on, off in pairs)
    medians = {on: statistics.median(found) for on, found in times.items()}
    return {
        "with_s": round(medians[True], 6),
        "without_s": round(medians[False], 6),
        "share": round(difference / medians[False], 5),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--stage", type=int, default=2)
    parser.add_argument("--micro-steps", type=int, default=2)
    given = parser.parse_args()
    found = measure(given.steps, given.stage, given.micro_steps)
    if distributed.ranks_from_environment().is_main:
        print(json.dumps(found))
    distributed.shutdown()


if __name__ == "__main__":
    main()
