"""How fast an evaluation's answers are generated, against a loop of ``generate`` over one prompt at a time.

torchrun --nproc-per-node 2 benchmarks/evaluation_speed.py --folder /tmp/speed

300 prompts of each of the built-in benchmark's ten tasks. In turns: the main rank alone, one unpadded
prompt at a time, with a key-value cache; the main rank alone, as an evaluation has it; both ranks, as an
evaluation has it. The rank that is not needed sleeps. Prints one JSON object: seconds of every turn,
processor seconds of the main rank, ratios of their medians, and how many answers differ.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hydra import compose, initialize_config_dir
from transformers import GenerationConfig

from data_modules.evaluation_rows import EvalRow
from launch.composing import addable, prepare_root
from trainer import distributed
from trainer.config.schema import Config
from trainer.config.strict_merge import to_config
from trainer.console import quieten_libraries
from trainer.evaluation.generate import generate, plain_generation
from trainer.evaluation.model import LoadedModel
from trainer.model import load_model
from trainer.train import make_data

REPOSITORY = Path(__file__).resolve().parents[1]
Found = list[tuple[str, bool]]  # text of an answer, and whether it ended by itself


def configuration(folder: Path, model: str, rows: int, batch_size: int) -> Config:
    """The demo, asked with the prompts of its first phase."""
    overrides = [
        "experiment=bench/demo",
        "+phase=mix",
        f"init_from={model}",
        f"data.root={folder}/data",
        f"data.cache_dir={folder}/cache",
        f"data.benchmark.eval_rows={rows}",
        f"evaluation.batch_size={batch_size}",
        "cluster.threads_per_rank=1",
    ]
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = to_config(compose("train", addable(overrides)))
    return config


def one_by_one(model: Any, tokenizer: Any, rows: Sequence[EvalRow], limits: Sequence[int]) -> Found:
    """What anyone would write first."""
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    found: Found = []
    with plain_generation(model):
        for row, limit in zip(rows, limits, strict=True):
            prompt = torch.tensor([row.prompt_ids])
            settings = GenerationConfig(
                max_new_tokens=limit, do_sample=False, eos_token_id=end, pad_token_id=pad
            )
            output = model.generate(
                prompt, attention_mask=torch.ones_like(prompt), generation_config=settings
            )
            ids = output[0, prompt.shape[1] :].tolist()
            finished = ids[-1] == end
            text = tokenizer.decode(
                ids[:-1] if finished else ids,
                skip_special_tokens=True,
                clean_up_tokenization_spaces=False,
            )
            found.append((text.strip(), finished))
    return found


def main() -> None:
    """Measure, in turns."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", default=str(REPOSITORY / "assets/bench_base"))
    parser.add_argument("--rows", type=int, default=300, help="prompts of each task")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()

    quieten_libraries()
    config = configuration(arguments.folder, arguments.model, arguments.rows, arguments.batch_size)
    ranks = distributed.ranks_from_environment()
    distributed.set_threads(config.cluster, ranks)
    device = distributed.init(config.cluster, ranks)
    distributed.on_first_local_rank(ranks, lambda: prepare_root(config))
    data = make_data(config, config.init_from)
    causal = load_model(config.model, data.tokenizer, config.init_from, config.seed)
    tasks = config.data.tasks
    rows = [
        row
        for task, some in data.eval_rows("mix", None)[0].items()
        for row in some
        if not tasks[task].general
    ]
    limits = [tasks[row.task].max_new_tokens for row in rows]

    def evaluated(world_size: int) -> Found:
        model = LoadedModel(causal, len(data.tasks), device, world_size)
        size = config.evaluation.batch_size
        answers = generate(model, data.tokenizer, rows, limits, size, ranks.rank)
        return [(one.text, one.finished) for one in answers]

    ways: dict[str, Callable[[], Found]] = {
        "one_by_one": lambda: one_by_one(causal, data.tokenizer, rows, limits),
        "one_rank": lambda: evaluated(1),
    }
    if ranks.world_size > 1:
        ways["all_ranks"] = lambda: evaluated(ranks.world_size)
    wall: dict[str, list[float]] = {name: [] for name in ways}
    processor: dict[str, list[float]] = {name: [] for name in ways}
    found: dict[str, Found] = {}
    for _ in range(arguments.turns):
        for name, way in ways.items():
            dist.barrier()
            start, used = time.perf_counter(), time.process_time()
            if ranks.is_main or name == "all_ranks":
                found[name] = way()
            wall[name].append(round(time.perf_counter() - start, 2))
            processor[name].append(round(time.process_time() - used, 2))
    if ranks.is_main:
        first = found["one_by_one"]
        median = {name: statistics.median(seconds) for name, seconds in wall.items()}
        used = {name: statistics.median(seconds) for name, seconds in processor.items()}
        figures = {
            "model": arguments.model,
            "prompts": len(rows),
            "tasks": len({row.task for row in rows}),
            "batch_size": arguments.batch_size,
            "ranks": ranks.world_size,
            "seconds": wall,
            "processor_seconds": processor,
            "ratio": {name: round(median["one_by_one"] / median[name], 1) for name in ways},
            "processor_ratio": {name: round(used["one_by_one"] / used[name], 1) for name in ways},
            "different_answers": {
                name: sum(one != other for one, other in zip(first, some, strict=True))
                for name, some in found.items()
            },
        }
        print(json.dumps(figures))
    distributed.shutdown()


if __name__ == "__main__":
    main()
