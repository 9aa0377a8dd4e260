"""Soft crosstalk: where the first token's probability goes, without generating an answer.

A model that is about to answer a task-i request in the manner of task j says so with its first token.
The tokens that right answers begin with, counted per task, give P(j | token) under equal priors; its mean
under the model's own distribution over those tokens is the probability of each task's manner. Tasks whose
answers begin alike share theirs, so the right answers' own spread is measured the same way and taken off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from data_modules.evaluation_rows import EvalRow
from trainer import watchdog
from trainer.evaluation.generate import continued, plain_generation
from trainer.evaluation.model import EvaluatedModel


def soft_crosstalk(
    model: EvaluatedModel,
    tokenizer: Any,
    rows_of: Mapping[str, Sequence[EvalRow]],
    asked: Sequence[str],
    rows_per_task: int,
    batch_size: int,
    rank: int,
) -> dict[str, dict[str, float]]:
    """asked task -> task -> probability of its manner in excess of that among right answers.

    A row sums to 0. Where tasks begin answers in ways of their own, the excess of the own task is at
    most 0; where they share beginnings, a model that avoids the shared ones has more. The same on
    every rank.

    Args:
        rows_of: every task's rows; all of them count for how answers begin.
        asked: tasks whose requests are asked, the first ``rows_per_task`` rows of each.
    """
    names = list(rows_of)
    starts = {name: Counter(_first(row) for row in rows_of[name]) for name in names}
    tokens = sorted({token for counts in starts.values() for token in counts})
    shares = np.array(
        [[starts[name][token] / len(rows_of[name]) for token in tokens] for name in names]
    )
    manner = shares / shares.sum(0)  # [tasks, tokens]: P(task | first token), equal priors
    rows = [row for name in asked for row in rows_of[name][:rows_per_task]]
    by_length = sorted(range(len(rows)), key=lambda index: len(rows[index].prompt_ids))
    batches = [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    real = len(batches)
    batches += [batches[-1]] * (-real % model.world_size)
    found = torch.zeros(len(rows), len(tokens), dtype=torch.float64)
    model.eval()
    with plain_generation(model.causal_model):
        for number in range(rank, len(batches), model.world_size):
            watchdog.at(f"soft crosstalk: batch {number + 1} of {len(batches)}")
            prompts = [rows[index].prompt_ids for index in batches[number]]
            one_each = [1] * len(prompts)
            logits = continued(model, tokenizer, prompts, one_each).first_logits[:, tokens]
            if number < real:
                found[batches[number]] = logits.double().softmax(-1).cpu()
    found = found.to(model.device)
    if model.world_size > 1:
        dist.all_reduce(found)
    p = found.cpu().numpy() @ manner.T  # [rows, tasks]
    result: dict[str, dict[str, float]] = {}
    for name in asked:
        mean = p[[index for index, row in enumerate(rows) if row.task == name]].mean(0)
        excess = mean - manner @ shares[names.index(name)]
        result[name] = {other: float(x) for other, x in zip(names, excess, strict=True)}
    return result


def rate(found: Mapping[str, Mapping[str, float]]) -> float:
    """Mean over the asked tasks of the probability that left their own manner."""
    return float(np.mean([max(0.0, -excess[task]) for task, excess in found.items()]))


def _first(row: EvalRow) -> int:
    """The first token of the right answer."""
    return row.input_ids[int(np.argmax(_last_run(row)))]


def _last_run(row: EvalRow) -> np.ndarray:
    """bool: supervised positions behind the prompt; earlier turns' answers are part of that."""
    behind = np.zeros(len(row.input_ids), bool)
    behind[len(row.prompt_ids) :] = True
    return behind & np.asarray(row.supervised, bool)
