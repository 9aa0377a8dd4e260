"""Greedy answers, sharded over ranks, under every ZeRO stage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from transformers import GenerationConfig

from data_modules.evaluation_rows import EvalRow
from trainer.attention import generation_attention
from trainer.engine import ZeroEngine


@dataclass(frozen=True)
class Answer:
    """A generated answer to row ``index``; ``finished`` if it ended by itself."""

    index: int
    text: str
    finished: bool


def generate(
    engine: ZeroEngine,
    tokenizer: Any,
    rows: Sequence[EvalRow],
    max_new_tokens: int,
    batch_size: int,
    rank: int,
) -> list[Answer]:
    """Greedy answers to all rows, on every rank, in the order of ``rows``.

    Rows are sorted by prompt length, so that little is padded, and dealt to ranks batch by batch.
    Every rank runs the same number of batches (ZeRO-3 gathers weights in each forward).
    """
    by_length = sorted(range(len(rows)), key=lambda index: len(rows[index].prompt_ids))
    batches = [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    batches += [batches[-1]] * (-len(batches) % engine.world_size)
    mine = batches[rank :: engine.world_size]
    answers: dict[int, Answer] = {}
    model = engine.module.causal_model
    engine.engine.eval()
    with generation_attention(model), torch.no_grad():
        for batch in mine:
            prompts = [rows[index].prompt_ids for index in batch]
            for index, ids in zip(
                batch, _continue(engine, model, tokenizer, prompts, max_new_tokens), strict=True
            ):
                finished = tokenizer.eos_token_id in ids
                ids = ids[: ids.index(tokenizer.eos_token_id)] if finished else ids
                text = tokenizer.decode(
                    ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
                )
                answers[index] = Answer(index, text.strip(), finished)
    if engine.world_size > 1:
        shards: list[Any] = [None] * engine.world_size
        dist.all_gather_object(shards, answers)
        answers = {index: answer for shard in shards for index, answer in shard.items()}
    return [answers[index] for index in range(len(rows))]


def _continue(
    engine: ZeroEngine,
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    max_new_tokens: int,
) -> list[list[int]]:
    """New token ids of each prompt, greedy, with a key-value cache."""
    width = max(len(prompt) for prompt in prompts)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=engine.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    output = model.generate(
        input_ids=ids,
        attention_mask=mask.to(engine.device),
        generation_config=GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=pad,
        ),
        synced_gpus=engine.stage == 3 and engine.world_size > 1,
    )
    result: list[list[int]] = output[:, width:].tolist()
    return result
