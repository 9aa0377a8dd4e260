"""Prepare, plan and serve many generated rows, and the same tokenising by plain ``datasets.map``.

python benchmarks/data_scale.py --rows 10000000 --folder /tmp/scale --tokenizer DIR

Prints one JSON object: seconds, tokens/s per core and the peak memory of the largest process of each
step. Every step runs in a process of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
TASKS = (
    *("qa", "translation", "summarization", "classification", "extraction"),
    *("sorting", "code", "math", "style", "chat"),
)
# a long tail, as real mixtures have: the first task holds half of all rows
SHARES = (50, 4, 6, 9, 7, 5, 4, 5, 5, 5)
# words of a small vocabulary, so that rows have the look of text without any download
SYLLABLES = (
    "ba",
    "de",
    "fi",
    "go",
    "hu",
    "ka",
    "le",
    "mi",
    "no",
    "pu",
    "ra",
    "se",
    "ti",
    "vo",
    "zu",
)
WORDS = [first + second for first in SYLLABLES for second in SYLLABLES]


def generate(folder: Path, rows: int) -> int:
    """Write ``train/<task>.jsonl``; bytes written. About 150 bytes a row, no two alike."""
    draw = random.Random(0)
    sentences = [" ".join(draw.choices(WORDS, k=draw.randint(5, 11))) for _ in range(100_000)]
    total = 0
    for task, share in zip(TASKS, SHARES, strict=True):
        path = folder / "train" / f"{task}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8") as file:
            for number in range(rows * share // 100):
                text, answer = draw.choice(sentences), draw.choice(sentences)
                file.write(
                    f'{{"instruction": "{task}: {text}", "input": "{number}", '
                    f'"output": "{answer} {number}"}}\n'
                )
        total += path.stat().st_size
    return total


def overrides(arguments: argparse.Namespace) -> list[str]:
    """The run that all steps belong to."""
    return [
        "data=folder",
        f"data.root={arguments.folder}/data",
        f"data.cache_dir={arguments.folder}/cache",
        "data.tasks.chat={sources:{main:{train:train/chat.jsonl}},general:true}",
        f"cleaning@data.cleaning={arguments.cleaning}",
        "data.groups.hard=[code,math]",
        "+phase=mix",
        "balance@curriculum.phases.mix.balance=natural",
        "model=tiny",
        f"model.tokenizer={arguments.tokenizer}",
        f"output_dir={arguments.folder}/run",
        "precision=fp32",
        "evaluation=none",
        "checkpoint=none",
    ]


def step(name: str) -> dict[str, Any]:
    """Run one step of this file in a process of its own; its figures, seconds and peak memory."""
    before = time.perf_counter()
    command = [sys.executable, __file__, *sys.argv[1:], "--step", name]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {"seconds": round(time.perf_counter() - before, 1)} | figures


def cpu_seconds() -> float:
    """Processor seconds of this process and of its finished children: what waiting does not change."""
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in usage)


def peak_mb() -> dict[str, float]:
    """Peak resident memory of this process, and of the largest of its children, in MB."""
    return {
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "largest_worker_mb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
    }


def composed(arguments: argparse.Namespace) -> Any:
    """The configuration of the run."""
    from hydra import compose, initialize_config_dir

    from launch.composing import addable, prepare_root
    from trainer.config.strict_merge import to_config

    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config = to_config(compose("train", addable(overrides(arguments))))
    prepare_root(config)
    return config


def module(arguments: argparse.Namespace) -> Any:
    """The data module of the run."""
    from trainer.train import make_data

    return make_data(composed(arguments), None)


def prepare(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read, clean, tokenise and plan."""
    data = module(arguments)
    begin, cpu = time.perf_counter(), cpu_seconds()
    marks: dict[str, float] = {}

    def progress(stage: str, done: int, total: int) -> None:
        if done == total:
            marks[stage] = round(time.perf_counter() - begin, 1)

    data.prepare(progress)
    seconds = time.perf_counter() - begin
    store = data.store("mix")
    tokens = int(store.offsets[-1])
    cores = data.data.workers or len(os.sched_getaffinity(0))
    return {
        "rows": len(store),
        "tokens": tokens,
        "stage_ends_s": marks,
        "prepare_s": round(seconds, 1),
        "cpu_s": round(cpu_seconds() - cpu, 1),
        "tokens_per_s_per_core": round(tokens / seconds / cores),
        "tokens_per_cpu_s": round(tokens / (cpu_seconds() - cpu)),
        **peak_mb(),
    }


def plan(arguments: argparse.Namespace) -> dict[str, Any]:
    """Make the plan afresh, then map it as a rank does and take the first batch."""
    data = module(arguments)
    data.prepare()  # cached: nothing but the plan is looked at
    base = peak_mb()["peak_mb"]
    begin = time.perf_counter()
    fresh = data.make_plan("mix")
    seconds = time.perf_counter() - begin
    rank = module(arguments)
    begin = time.perf_counter()
    rank.load()
    weights = np.ones(len(rank.plans["mix"].step_rows(0)))
    batches = rank.step_batches("mix", 0, weights, 0, 1, 4)
    return {
        "plan_rows": len(fresh.rows),
        "plan_s": round(seconds, 2),
        "first_batch_s": round(time.perf_counter() - begin, 2),
        "micro_batches": len(batches),
        "before_plan_mb": base,
        **peak_mb(),
    }


def baseline(arguments: argparse.Namespace) -> dict[str, Any]:
    """The same rows read, rendered and tokenised by ``datasets.map`` alone."""
    import datasets
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(arguments.tokenizer, trust_remote_code=False)
    datasets.disable_progress_bars()
    cores = len(os.sched_getaffinity(0))
    begin, cpu = time.perf_counter(), cpu_seconds()
    rows = datasets.load_dataset(
        "json",
        data_files=[f"{arguments.folder}/data/train/{task}.jsonl" for task in TASKS],
        split="train",
        cache_dir=f"{arguments.folder}/datasets",
    )
    everything = len(rows)
    # spread over all tasks, as those of the other side are
    rows = rows.select(range(0, everything, max(1, everything // arguments.baseline_rows)))
    # reading is charged in proportion to the rows that are mapped
    read, cpu_read = time.perf_counter() - begin, (cpu_seconds() - cpu) * len(rows) / everything
    cpu = cpu_seconds()

    def tokenise(batch: dict[str, list[str]]) -> dict[str, Any]:
        conversations = [
            [
                {"role": "user", "content": f"{instruction}\n{given}"},
                {"role": "assistant", "content": output},
            ]
            for instruction, given, output in zip(
                batch["instruction"], batch["input"], batch["output"], strict=True
            )
        ]
        whole = tokenizer.apply_chat_template(conversations, tokenize=True, return_dict=True)
        prompt = tokenizer.apply_chat_template(
            [one[:1] for one in conversations],
            tokenize=True,
            add_generation_prompt=True,
            return_dict=True,
        )
        return {
            "input_ids": whole["input_ids"],
            "prompt_tokens": [len(ids) for ids in prompt["input_ids"]],
        }

    begin = time.perf_counter()
    made = rows.map(tokenise, batched=True, num_proc=cores, remove_columns=rows.column_names)
    seconds, mapped = time.perf_counter() - begin, cpu_seconds() - cpu
    tokens = sum(len(ids) for ids in made.with_format("numpy")["input_ids"])
    return {
        "rows": len(rows),
        "tokens": tokens,
        "read_all_s": round(read, 1),
        "map_s": round(seconds, 1),
        "cpu_s": round(mapped + cpu_read, 1),
        "tokens_per_s_per_core": round(tokens / seconds / cores),
        "tokens_per_cpu_s": round(tokens / (mapped + cpu_read)),
        **peak_mb(),
    }


def loader(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train a tiny model on steps from the whole length of the plan; how long it waits for batches."""
    import torch

    from data_modules.prefetch import prefetched
    from trainer.loss import MultiTaskLM
    from trainer.model import load_model

    torch.set_num_threads(1)
    config = composed(arguments)
    data = module(arguments)
    data.load()
    plan = data.plans["mix"]
    model = MultiTaskLM(load_model(config.model, data.tokenizer, None, 0), len(data.tasks))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    count = min(60, plan.steps)

    def batches_of(number: int) -> Any:
        step = number * plan.steps // count
        weights = np.ones(len(plan.step_rows(step)))
        return data.step_batches("mix", step, weights, 0, 1, config.micro_batch_size)

    waited, begin = 0.0, time.perf_counter()
    for number, (batches, seconds) in enumerate(prefetched(batches_of, count)):
        if number:  # nothing can be made ahead of the first
            waited += seconds
        for batch in batches:
            loss, _ = model(
                batch.input_ids,
                batch.labels,
                batch.position_ids,
                batch.loss_weights,
                batch.task_ids,
                batch.cu_seqlens,
            )
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    seconds = time.perf_counter() - begin
    parameters = sum(one.numel() for one in model.parameters())
    return {
        "model_parameters": parameters,
        "steps": count,
        "rows_a_step": config.global_batch_size,
        "step_ms": round(1000 * seconds / count, 1),
        "wait_share": round(waited / seconds, 5),
        **peak_mb(),
    }


STEPS = {"prepare": prepare, "plan": plan, "loader": loader, "baseline": baseline}


def main() -> None:
    """Generate what is not there, run all steps, print their figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--folder", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--cleaning", default="none")
    parser.add_argument("--baseline-rows", type=int, default=1_000_000)
    parser.add_argument("--only", choices=STEPS, nargs="+", default=list(STEPS))
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(STEPS[arguments.step](arguments)))
        return
    data = Path(arguments.folder) / "data"
    figures: dict[str, Any] = {}
    if not data.is_dir():
        figures["bytes"] = generate(data, arguments.rows)
    for name in arguments.only:
        figures[name] = step(name)
        print(json.dumps({name: figures[name]}), flush=True)
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
