"""Greedy answers, sharded over ranks, under every ZeRO stage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from transformers import GenerationConfig

from data_modules.evaluation_rows import EvalRow
from trainer import watchdog
from trainer.attention import generation_attention
from trainer.evaluation.model import EvaluatedModel


@dataclass(frozen=True)
class Answer:
    """A generated answer to row ``index``; ``finished`` if it ended by itself."""

    index: int
    text: str
    finished: bool


def generate(
    model: EvaluatedModel,
    tokenizer: Any,
    rows: Sequence[EvalRow],
    max_new_tokens: int,
    batch_size: int,
    rank: int,
) -> list[Answer]:
    """Greedy answers to all rows, on every rank, in the order of ``rows``.

    Rows are sorted by prompt length, so that little is padded, and dealt to ranks batch by batch:
    which rows share a batch does not depend on the number of ranks.
    """
    by_length = sorted(range(len(rows)), key=lambda index: len(rows[index].prompt_ids))
    batches = [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    batches += [batches[-1]] * (-len(batches) % model.world_size)
    answers: dict[int, Answer] = {}
    model.eval()
    with plain_generation(model.causal_model):
        for batch in batches[rank :: model.world_size]:
            watchdog.at(f"answers of task '{rows[batch[0]].task}'")
            prompts = [rows[index].prompt_ids for index in batch]
            output = continued(model, tokenizer, prompts, max_new_tokens)
            for index, ids in zip(batch, output.sequences.tolist(), strict=True):
                ids = ids[-output.new_tokens :]
                finished = tokenizer.eos_token_id in ids
                ids = ids[: ids.index(tokenizer.eos_token_id)] if finished else ids
                text = tokenizer.decode(
                    ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
                )
                answers[index] = Answer(index, text.strip(), finished)
    if model.world_size > 1:
        shards: list[Any] = [None] * model.world_size
        dist.all_gather_object(shards, answers)
        answers = {index: answer for shard in shards for index, answer in shard.items()}
    return [answers[index] for index in range(len(rows))]


@contextmanager
def plain_generation(causal_model: Any) -> Iterator[None]:
    """Attention with masks and a cache, no gradients, and no habits of the model's own.

    ``generate`` fills what it is not told from ``generation_config.json``, where published models have
    penalties on repetition; exports have none, and greedy answers are to be comparable.
    """
    own = causal_model.generation_config
    causal_model.generation_config = GenerationConfig()
    try:
        with generation_attention(causal_model), torch.no_grad():
            yield
    finally:
        causal_model.generation_config = own


class Continued(NamedTuple):
    """Continued prompts: ids [rows, width + new_tokens], logits of the first new token [rows, V]."""

    sequences: torch.Tensor
    new_tokens: int
    first_logits: torch.Tensor


def continued(
    model: EvaluatedModel, tokenizer: Any, prompts: list[list[int]], max_new_tokens: int
) -> Continued:
    """Greedy continuations, with a key-value cache; prompts are padded on the left."""
    width = max(len(prompt) for prompt in prompts)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    output = model.causal_model.generate(
        input_ids=ids,
        attention_mask=mask.to(model.device),
        generation_config=GenerationConfig(
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=pad,
            return_dict_in_generate=True,
            output_logits=max_new_tokens == 1,
        ),
        synced_gpus=model.gathers_weights,
    )
    new_tokens = output.sequences.shape[1] - width
    logits = output.logits[0] if max_new_tokens == 1 else torch.empty(0)
    return Continued(output.sequences, new_tokens, logits)
