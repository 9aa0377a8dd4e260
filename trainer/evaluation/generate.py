"""Greedy answers, sharded over ranks, under every ZeRO stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList

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
    limits: Sequence[int],
    batch_size: int,
    rank: int,
    pause: Callable[[], None] = lambda: None,
) -> list[Answer]:
    """Greedy answers to all rows, on every rank, in the order of ``rows``.

    Batches are dealt to ranks in turn: which rows share a batch does not depend on the number of ranks.

    Args:
        rows: of any tasks; the more are given at once, the fuller are batches and ranks.
        limits: the most new tokens of each row.
        pause: called on all ranks between batches; it may leave by an exception.
    """
    if not rows:
        return []
    batches = schedule(rows, limits, batch_size)
    real = len(batches)
    # a rank without a batch runs along: under ZeRO-3 all must run as many forwards
    batches += [batches[-1][-1:]] * (-real % model.world_size)
    answers: dict[int, Answer] = {}
    model.eval()
    for number in range(rank, len(batches), model.world_size):
        pause()
        watchdog.at(f"answers: batch {number + 1} of {real}")
        batch = batches[number]
        prompts = [rows[index].prompt_ids for index in batch]
        most = [limits[index] for index in batch]
        with plain_generation(model.causal_model):
            output = continued(model, tokenizer, prompts, most)
        if number < real:
            for index, ids in zip(batch, output.new_ids, strict=True):
                answers[index] = answer_of(index, ids, tokenizer)
    if model.world_size > 1:
        shards: list[Any] = [None] * model.world_size
        dist.all_gather_object(shards, answers)
        answers = {index: answer for shard in shards for index, answer in shard.items()}
    return [answers[index] for index in range(len(rows))]


def schedule(rows: Sequence[EvalRow], limits: Sequence[int], batch_size: int) -> list[list[int]]:
    """Row numbers by batch, the longest first: those that only fill up the ranks are the shortest.

    A batch goes on until its last row ends, so rows with right answers of like length (within a factor
    of two) share one, and among those rows with prompts of like length. Limits go before: a model that
    has learned nothing yet goes on to them.
    """

    def length(index: int) -> tuple[int, int, int]:
        prompt = len(rows[index].prompt_ids)
        right = len(rows[index].input_ids) - prompt
        return limits[index], right.bit_length(), prompt

    order = sorted(range(len(rows)), key=length, reverse=True)
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def answer_of(index: int, ids: list[int], tokenizer: Any) -> Answer:
    """New ids as an answer: what is before the end token, if there is one."""
    finished = tokenizer.eos_token_id in ids
    ids = ids[: ids.index(tokenizer.eos_token_id)] if finished else ids
    text = tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Answer(index, text.strip(), finished)


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


class RowLimits(StoppingCriteria):
    """Ends each row of a batch at its own limit of tokens, prompt and padding counted."""

    def __init__(self, limits: torch.Tensor) -> None:
        self.limits = limits  # int64 [rows]

    def __call__(self, input_ids: torch.Tensor, _: Any, **__: Any) -> Any:
        """Bool [rows]: the row is over."""
        return self.limits <= input_ids.shape[1]


class Continued(NamedTuple):
    """Continued prompts.

    Attributes:
        new_ids: of each row at most as many as it may have; padding behind its end token.
        first_logits: of the first new token, [rows, V]; empty where a row may have more than one.
    """

    new_ids: list[list[int]]
    first_logits: torch.Tensor


def continued(
    model: EvaluatedModel, tokenizer: Any, prompts: list[list[int]], limits: Sequence[int]
) -> Continued:
    """Greedy continuations, with a key-value cache; prompts are padded on the left.

    Args:
        limits: the most new tokens of each row.
    """
    width = max(len(prompt) for prompt in prompts)
    most = max(limits)
    pad = tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (width - len(p)) + p for p in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
    ends = torch.tensor(limits, device=model.device) + width
    output = model.causal_model.generate(
        input_ids=ids,
        attention_mask=mask.to(model.device),
        generation_config=GenerationConfig(
            max_new_tokens=most,
            do_sample=False,
            num_beams=1,
            use_cache=True,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=pad,
            return_dict_in_generate=True,
            output_logits=most == 1,
        ),
        stopping_criteria=StoppingCriteriaList([RowLimits(ends)]),
        synced_gpus=model.gathers_weights,
    )
    new = output.sequences[:, width:].tolist()
    logits = output.logits[0] if most == 1 else torch.empty(0)
    return Continued([one[:limit] for one, limit in zip(new, limits, strict=True)], logits)
