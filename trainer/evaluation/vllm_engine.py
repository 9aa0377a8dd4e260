"""Answers by vLLM, which a model directory can be put to: the same ids in, greedy, the same end token.

Its kernels round unlike ours, so where two tokens are nearly as likely an answer may be another one; all
other figures of an evaluation are of our own model, whatever generates the answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from data_modules.evaluation_rows import EvalRow
from trainer import watchdog
from trainer.config.schema import Config, Precision
from trainer.evaluation.generate import Answer, answer_of
from trainer.model import max_positions


def vllm_answers(
    config: Config, tokenizer: Any, rows: Sequence[EvalRow], limits: Sequence[int]
) -> list[Answer]:
    """Greedy answers to all rows, in their order, by the model in ``init_from``, else ``model.path``.

    Args:
        limits: the most new tokens of each row.
    """
    from vllm import LLM, SamplingParams  # GPU-only extra

    longest = max(len(row.prompt_ids) + limit for row, limit in zip(rows, limits, strict=True))
    positions = max_positions(config.model, tokenizer, config.init_from)
    with watchdog.paused("answers by vLLM"):
        engine = LLM(
            model=config.init_from or config.model.path,
            # prompts come as ids, and ids are turned into text as ours are
            skip_tokenizer_init=True,
            # no habits of the model's own generation_config.json
            generation_config="vllm",
            dtype="bfloat16" if config.precision is Precision.bf16 else "float32",
            max_model_len=min(longest, positions or longest),
            gpu_memory_utilization=config.evaluation.vllm_memory,
            seed=0,
        )
        outputs = engine.generate(
            [{"prompt_token_ids": row.prompt_ids} for row in rows],
            [
                SamplingParams(
                    temperature=0,
                    max_tokens=limit,
                    # of all tokens that the model's files call an end, ours alone is one
                    ignore_eos=True,
                    stop_token_ids=[tokenizer.eos_token_id],
                    detokenize=False,
                )
                for limit in limits
            ],
        )
    return [
        answer_of(index, list(output.outputs[0].token_ids), tokenizer)
        for index, output in enumerate(outputs)
    ]
