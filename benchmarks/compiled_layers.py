"""Whether torch.compile pays: packed micro-batches through compiled layers and through plain ones.

    python benchmarks/compiled_layers.py --family qwen3

Two models with the same weights take turns on the same batches, forward and backward; no two batches are
of the same lengths. Time is the processor's on a CPU: others on the machine do not count. Prints one JSON
object: seconds that compiling took (of this process alone: its children's are not counted), the ratio of a
micro-step behind that, after how many micro-steps the one has paid for the other, and how far gradients
are apart.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from trainer import attention
from trainer.kernels import compile_layers
from trainer.loss import MultiTaskLM, SupervisedHead

VOCABULARY, SUPERVISED = 6400, 0.4
#: Micro-steps until every size has been seen: the first is compiled for one, a later one for all.
WARM_UP = 5


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", default="qwen3")
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--tokens", type=int, default=1000)
    parser.add_argument("--micro-steps", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    plain, compiled = (model(given).to(device) for _ in range(2))
    compile_layers(compiled.model)
    draw, seconds, apart = random.Random(0), ([], []), 0.0  # type: ignore[var-annotated]
    for _ in range(given.micro_steps):
        given_batch = batch(given.tokens, draw, device)
        for one, times in zip((plain, compiled), seconds, strict=True):
            times.append(timed(one, given_batch))
        apart = max(apart, *distances(plain, compiled))
    ours, theirs = (median(times[WARM_UP:]) for times in seconds)
    compiling = sum(seconds[1][:WARM_UP]) - WARM_UP * theirs
    ratios = [b / a for a, b in zip(*(times[WARM_UP:] for times in seconds), strict=True)]
    saved = ours - theirs
    found = {
        "compile_seconds": compiling,
        "compiled / plain": median(ratios),
        "pays_after_micro_steps": round(compiling / saved) if saved > 0 else None,
        "gradients_apart": apart,
    }
    print(json.dumps({**vars(given), **found}))


def model(given: argparse.Namespace) -> MultiTaskLM:
    """The same weights every time."""
    torch.manual_seed(0)
    described = AutoConfig.for_model(
        given.family,
        vocab_size=VOCABULARY,
        hidden_size=given.width,
        intermediate_size=3 * given.width,
        num_hidden_layers=given.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=given.width // 4,
        tie_word_embeddings=True,
    )
    made = AutoModelForCausalLM.from_config(
        described, dtype=torch.float32, attn_implementation=attention.NAME
    )
    SupervisedHead.adopt(made.get_output_embeddings())
    return MultiTaskLM(made, tasks=1)


def batch(tokens: int, draw: random.Random, device: torch.device) -> dict[str, Any]:
    """One packed row of about so many tokens."""
    lengths = [draw.randint(40, 220)]
    while sum(lengths) < tokens:
        lengths.append(draw.randint(40, 220))
    ids = torch.tensor([draw.randrange(VOCABULARY) for _ in range(sum(lengths))])
    answer = torch.cat([torch.arange(n) >= (1 - SUPERVISED) * n for n in lengths])
    row = {
        "input_ids": ids,
        "labels": torch.where(answer, ids, -100),
        "position_ids": torch.cat([torch.arange(n) for n in lengths]),
        "loss_weights": answer / answer.sum(),
        "task_ids": torch.zeros_like(ids),
    }
    bounds = torch.tensor([0, *lengths]).cumsum(0).int()
    return {name: one[None].to(device) for name, one in row.items()} | {"cu_seqlens": bounds}


def timed(one: MultiTaskLM, given: dict[str, Any]) -> float:
    """Seconds of a forward and backward."""
    clock = time.perf_counter if given["input_ids"].is_cuda else time.process_time
    one.zero_grad()
    start = clock()
    loss, _ = one(**given)
    loss.backward()
    loss.item()  # waits for a GPU
    return clock() - start


def distances(one: MultiTaskLM, other: MultiTaskLM) -> list[float]:
    """Of each gradient, the largest difference as a share of its largest number."""
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    grads: list[tuple[Any, Any]] = [(a.grad, b.grad) for a, b in pairs]
    return [float((a - b).abs().max() / a.abs().max()) for a, b in grads]


if __name__ == "__main__":
    main()
