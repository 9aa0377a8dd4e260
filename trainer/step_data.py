"""One optimizer step's data: this rank's micro-batches, and what the step holds on all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_modules.collate import Batch
from data_modules.phase_data_module import PhaseDataModule
from data_modules.phase_plan import PhasePlan
from trainer.curriculum import Phase
from trainer.distributed import Ranks
from trainer.objective import row_weights


@dataclass(frozen=True)
class StepData:
    """One step's micro-batches for this rank, and what the step holds on all ranks.

    Attributes:
        tokens: input tokens.
        pairs: of a token and one that it attends to, itself included.
        supervised: tokens that reach the output projection, of negatives too.
        rows, answer_tokens: task -> rows with right answers, and their supervised tokens.
    """

    batches: list[Batch]
    tokens: int
    pairs: int
    supervised: int
    rows: dict[str, int]
    answer_tokens: dict[str, int]


def step_data(
    data: PhaseDataModule,
    phase: Phase,
    phase_tasks: Sequence[str],
    index: int,
    ranks: Ranks,
    micro_batch_size: int,
    parts: int = 1,
) -> StepData:
    """The data of the phase's step ``index`` (0-based): found by its number, whatever came before.

    Args:
        phase_tasks: the tasks that the phase trains on.
        parts: neighbouring ranks that share each micro-batch, a slice of its positions each.
    """
    plan = data.plans[phase.name]
    rows = plan.step_rows(index)
    task_ids, answers = plan.store.task_ids[rows], plan.store.answer_tokens[rows]
    signs = plan.store.signs[rows]
    weights = row_weights(
        phase.config.loss_normalization,
        phase.config.loss_weights,
        phase_tasks,
        data.tasks,
        task_ids,
        answers,
        signs,
        phase.config.negatives.weight,
    )
    batches = data.step_batches(
        phase.name, index, weights, ranks.rank, ranks.world_size, micro_batch_size, parts
    )
    row_counts, token_counts = _counts(data, plan, rows)
    lengths = plan.store.lengths_of(rows)
    present = [(task, name) for task, name in enumerate(data.tasks) if row_counts[task]]
    return StepData(
        batches,
        tokens=int(lengths.sum()),
        pairs=int((lengths * (lengths + 1) // 2).sum()),
        supervised=int(answers.sum()),
        rows={name: int(row_counts[task]) for task, name in present},
        answer_tokens={name: int(token_counts[task]) for task, name in present},
    )


def pinned(data: StepData) -> StepData:
    """The same with what goes to a GPU in pinned memory, from where it travels beside the computation."""
    batches = [
        replace(
            batch,
            input_ids=batch.input_ids.pin_memory(),
            position_ids=batch.position_ids.pin_memory(),
        )
        for batch in data.batches
    ]
    return replace(data, batches=batches)


def trained_counts(
    data: PhaseDataModule, phase: Phase, passed_steps: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """What a finished phase was trained on, from its plan: it does not matter who trained which part.

    Args:
        passed_steps: global steps that were left out.

    Returns:
        Right answers of every task and their supervised tokens, float64 [tasks] each.
    """
    plan = data.plans[phase.name]
    sums = _counts(data, plan, plan.rows)
    for step in passed_steps:
        if phase.first_step <= step <= phase.last_step:
            left_out = _counts(data, plan, plan.step_rows(step - phase.first_step))
            sums = (sums[0] - left_out[0], sums[1] - left_out[1])
    return sums


def _counts(
    data: PhaseDataModule, plan: PhasePlan, rows: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    right = rows[np.asarray(plan.store.signs)[rows] > 0]
    tasks = np.asarray(plan.store.task_ids)[right]
    answers = np.asarray(plan.store.answer_tokens)[right]
    count = len(data.tasks)
    return np.bincount(tasks, minlength=count).astype(float), np.bincount(tasks, answers, count)
