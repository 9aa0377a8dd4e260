"""What a step costs beside the model: with more tasks, rows, phases, further on in a run, and per feature.

python benchmarks/step_cost.py --out /tmp/step_cost.json

The training loop itself (``PhaseSteps``: data, guard, metrics, everything but checkpoints and evaluation)
on made-up rows, one rank, ZeRO-2, fp32. Every line compares two settings in this one process, in short
blocks of steps that take turns; what is compared is processor seconds per token, so that other processes
matter little. The model is so small (0.9 million parameters, a thousand tokens a step) that costs beside it
show.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from data_modules.phase_data_module import PhaseDataModule
from data_modules.phase_plan import PhasePlan
from data_modules.samples import SampleStore
from trainer import attention, distributed
from trainer.config.schema import Config, PhaseConfig, Precision
from trainer.curriculum import Phase
from trainer.distributed import Ranks
from trainer.engine import ZeroEngine
from trainer.guard.step_guard import StepGuard
from trainer.loss import SupervisedHead
from trainer.meters.peaks import Peaks
from trainer.meters.throughput import Throughput
from trainer.metrics import JsonlSink, Metrics
from trainer.phase_steps import PhaseSteps

VOCABULARY = 512
ROWS_A_STEP = 32
PROMPT, ANSWER = 24, 8
#: Tokens that a tag and a constraint add to a prompt.
BOUNDARY = 8
RANKS = Ranks(0, 1, 0, 1)


@dataclass(frozen=True)
class Setting:
    """One side of a comparison."""

    tasks: int = 10
    rows: int = 1_000
    phases: int = 1
    steps_done: int = 10
    negatives: float = 0.0
    boundary: bool = False


#: name -> (less, more)
COMPARISONS = {
    "losses of 10 tasks, against one sum": (Setting(tasks=1), Setting()),
    "a fifth of the rows negatives, against none": (Setting(), Setting(negatives=0.2)),
    "boundaries, against none": (Setting(), Setting(boundary=True)),
    "1,000 tasks, against 10": (Setting(rows=100_000), Setting(rows=100_000, tasks=1_000)),
    "10^7 rows, against 10^3": (Setting(), Setting(rows=10_000_000)),
    "50 phases, against 1": (Setting(), Setting(phases=50)),
    "behind 300,000 steps, against 10": (
        Setting(rows=10_000_000),
        Setting(rows=10_000_000, steps_done=300_000),
    ),
}


def store_of(setting: Setting) -> SampleStore:
    """Random rows, all of one length; tasks take turns."""
    rng = np.random.default_rng(0)
    count = setting.rows
    prompt = PROMPT + (BOUNDARY if setting.boundary else 0)
    length = prompt + ANSWER
    mask = np.zeros(length, bool)
    mask[prompt:] = True
    names = tuple(f"task{number}" for number in range(setting.tasks))
    return SampleStore(
        tasks=names,
        sources=tuple(f"{name}/main" for name in names),
        languages=("en",),
        input_ids=rng.integers(0, VOCABULARY, count * length, dtype=np.int32),
        supervised=np.broadcast_to(mask, (count, length)).reshape(-1),
        offsets=np.arange(count + 1, dtype=np.int64) * length,
        task_ids=(np.arange(count) % setting.tasks).astype(np.int32),
        answer_tokens=np.full(count, ANSWER, np.int32),
        signs=np.where(rng.random(count) < setting.negatives, -1, 1).astype(np.int8),
        source_ids=(np.arange(count) % setting.tasks).astype(np.int16),
        language_ids=np.zeros(count, np.int16),
        quality=np.ones(count, np.float32),
        row_keys=np.arange(count, dtype=np.uint64),
        request_keys=np.arange(count, dtype=np.uint64),
        token_keys=np.arange(count, dtype=np.uint64),
    )


class MadeUpData(PhaseDataModule):
    """Planned phases of a store, without files behind them."""

    def __init__(self, store: SampleStore, phases: list[str]) -> None:
        rows = np.random.default_rng(1).permutation(len(store)).astype(np.int32)
        asked = dict.fromkeys(store.tasks, 1 / len(store.tasks))
        self.plans = {
            name: PhasePlan(name, store, rows, 1.0, ROWS_A_STEP, asked) for name in phases
        }
        self.tasks = store.tasks
        self.data = SimpleNamespace(max_seq_len=512, packing=True)
        self.tokenizer = SimpleNamespace(pad_token_id=0)


class Quiet:
    """Stands where a run has its boundary, interference watch and profile."""

    passed_steps: tuple[int, ...] = ()

    def __init__(self) -> None:
        self.watches: dict[str, Any] = {}

    def after_step(self, *_: Any) -> None:
        pass

    def after_phase(self, *_: Any) -> None:
        pass

    def step(self, _: int) -> Any:
        return nullcontext()

    def close(self) -> None:
        pass


class Side:
    """A setting with a model and a loop of its own."""

    def __init__(self, setting: Setting, folder: Path, device: torch.device) -> None:
        self.setting = setting
        store = store_of(setting)
        names = [f"phase{number}" for number in range(setting.phases)]
        data = MadeUpData(store, names)
        config = Config(precision=Precision.fp32, micro_batch_size=2)
        config.logging.console_seconds = 1e9
        self.engine = ZeroEngine(_model(), setting.tasks, config, device, 1)
        folder.mkdir()
        quiet = Quiet()
        self.steps = PhaseSteps(
            config,
            RANKS,
            data,
            self.engine,
            Metrics([JsonlSink(folder / "metrics.jsonl")]),
            Throughput.of(self.engine.shape, Peaks("", None, None), 1),
            quiet,
            quiet,
            StepGuard(config, self.engine, data, 0, folder / "faults.jsonl"),
            quiet,
            lambda *_: None,
        )
        # every phase but the last is behind
        before = [
            Phase(name, 1 + 10 * number, 10 * (number + 1), PhaseConfig())
            for number, name in enumerate(names[:-1])
        ]
        self.before, self.name = before, names[-1]
        self.tokens = int(store.offsets[1]) * ROWS_A_STEP

    def block(self, steps: int) -> list[float]:
        """Processor seconds of each of so many steps; the first is not counted."""
        first = 1 + (self.before[-1].last_step if self.before else 0)
        done = first - 1 + self.setting.steps_done
        phase = Phase(self.name, first, done + steps + 1, PhaseConfig())
        ends: list[float] = []
        train_step = self.engine.train_step

        def clocked(*given: Any) -> Any:
            result = train_step(*given)
            ends.append(time.process_time())
            return result

        self.engine.train_step = clocked  # type: ignore[method-assign]
        try:
            self.steps.train([*self.before, phase], phase, done)
        finally:
            del self.engine.train_step
        return [later - earlier for earlier, later in pairwise(ends)]


def _model() -> Any:
    torch.manual_seed(0)
    described = AutoConfig.for_model(
        "qwen2",
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = AutoModelForCausalLM.from_config(
        described, dtype=torch.float32, attn_implementation=attention.NAME
    )
    SupervisedHead.adopt(model.get_output_embeddings())
    return model


def compare(less: Setting, more: Setting, blocks: int, steps: int, device: Any) -> dict[str, Any]:
    """Seconds per token of both, and the ratio block by block."""
    with tempfile.TemporaryDirectory() as folder:
        sides = [Side(one, Path(folder) / str(n), device) for n, one in enumerate((less, more))]
        for side in sides:
            side.block(steps)
        taken: list[list[float]] = [[], []]
        for number in range(blocks):
            # who goes first changes
            for which in (0, 1) if number % 2 else (1, 0):
                seconds = statistics.median(sides[which].block(steps))
                taken[which].append(seconds / sides[which].tokens)
    ratios = [b / a for a, b in zip(*taken, strict=True)]
    middle = statistics.quantiles(ratios, n=4)
    return {
        "step_milliseconds": 1e3 * statistics.median(taken[0]) * sides[0].tokens,
        "ratio": statistics.median(ratios),
        "middle_half": [middle[0], middle[2]],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--blocks", type=int, default=30)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--only", action="append", default=[], choices=list(COMPARISONS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    device = distributed.init(Config().cluster, RANKS)
    results = {}
    for name, (less, more) in COMPARISONS.items():
        if options.only and name not in options.only:
            continue
        one = results[name] = compare(less, more, options.blocks, options.steps, device)
        low, high = one["middle_half"]
        print(
            f"{name:46} {one['ratio']:.4f} ({low:.3f}-{high:.3f}), step {one['step_milliseconds']:.0f} ms",
            flush=True,
        )
    if options.out:
        options.out.write_text(json.dumps(results, indent=1), encoding="utf-8")
    distributed.shutdown()


if __name__ == "__main__":
    main()
