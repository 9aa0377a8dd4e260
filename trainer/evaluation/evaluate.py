"""Evaluate the live model on every task that has evaluation rows."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from data_modules.collate import collate
from data_modules.config import Metric, TaskConfig
from data_modules.evaluation_rows import EvalRow
from data_modules.phase_data_module import PhaseDataModule
from data_modules.rejects import count_rejects, reject_words
from data_modules.samples import Sample, SampleStore
from data_modules.unification import unify, violations
from trainer.config.schema import EvaluationConfig
from trainer.console import LOGGER
from trainer.engine import ZeroEngine
from trainer.evaluation.generate import Answer, generate
from trainer.evaluation.results import Evaluation, TaskResult
from trainer.run_directory import write_text


def evaluate(
    engine: ZeroEngine,
    data: PhaseDataModule,
    phase: str,
    config: EvaluationConfig,
    rank: int,
    predictions: Path,
) -> Evaluation:
    """Evaluate all tasks with the prompts of ``phase``; the same result on every rank.

    Args:
        predictions: folder that gets ``<task>.jsonl`` with every generated answer (main rank).
    """
    rows_of, rejects = data.eval_rows(phase, config.rows_per_task)
    if rejects:
        LOGGER.warning("evaluation rows left out: %s", reject_words(count_rejects(rejects)))
    rows_of = {task: rows for task, rows in rows_of.items() if rows}
    losses = _losses(engine, data, rows_of, config.batch_size, rank)
    results: Evaluation = {}
    for task, rows in rows_of.items():
        accuracy, truncated, in_format = None, None, None
        task_config = data.data.tasks[task]
        if config.generate and task_config.metric is Metric.exact_match:
            answers = generate(
                engine, data.tokenizer, rows, task_config.max_new_tokens, config.batch_size, rank
            )
            right = [
                exact_match(row, answer, task_config)
                for row, answer in zip(rows, answers, strict=True)
            ]
            broken = [violations(answer.text, task_config) for answer in answers]
            accuracy = sum(right) / len(rows)
            in_format = broken.count([]) / len(rows)
            truncated = sum(not answer.finished for answer in answers)
            if rank == 0:
                _write_predictions(predictions / f"{task}.jsonl", rows, answers, right, broken)
        results[task] = TaskResult(
            len(rows), losses[task], task_config.general, accuracy, truncated, in_format
        )
    return results


def exact_match(row: EvalRow, answer: Answer, task: TaskConfig) -> bool:
    """The answer ended by itself and is the gold answer, both in the task's format.

    Outer white space does not count.
    """
    processed, gold = unify(answer.text, task).strip(), unify(row.answer, task).strip()
    return answer.finished and processed == gold


def _losses(
    engine: ZeroEngine,
    data: PhaseDataModule,
    rows_of: dict[str, list[EvalRow]],
    batch_size: int,
    rank: int,
) -> dict[str, float]:
    """Mean nll per supervised token of each task."""
    store = SampleStore.build(
        data.tasks,
        (
            Sample(task, row.input_ids, row.supervised)
            for task, rows in rows_of.items()
            for row in rows
        ),
    )
    by_length = np.argsort(store.lengths, kind="stable")
    batches = [by_length[i : i + batch_size] for i in range(0, len(by_length), batch_size)]
    real = len(batches)
    batches += [batches[-1][:1]] * (-real % engine.world_size)
    sums = torch.zeros(engine.tasks, dtype=torch.float64, device=engine.device)
    for number in range(rank, len(batches), engine.world_size):
        rows = batches[number]
        sums += engine.nll(
            collate(
                store,
                rows,
                np.ones(len(rows)),
                data.tokenizer.pad_token_id,
                packing=False,
                empty=number >= real,
            )
        )
    if engine.world_size > 1:
        dist.all_reduce(sums)
    tokens = np.bincount(store.task_ids, weights=store.answer_tokens, minlength=engine.tasks)
    total = sums.tolist()
    return {
        task: total[data.tasks.index(task)] / float(tokens[data.tasks.index(task)])
        for task in rows_of
    }


def _write_predictions(
    path: Path,
    rows: list[EvalRow],
    answers: list[Answer],
    right: list[bool],
    broken: list[list[str]],
) -> None:
    lines = [
        json.dumps(
            {
                "origin": row.origin,
                "answer": answer.text,
                "gold": row.answer,
                "right": ok,
                "finished": answer.finished,
                "format_violations": rules,
            },
            ensure_ascii=False,
        )
        for row, answer, ok, rules in zip(rows, answers, right, broken, strict=True)
    ]
    write_text(path, "".join(line + "\n" for line in lines))
