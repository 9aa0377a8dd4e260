"""The weights of a step's loss: exact for any world size, micro-batch, packing and ZeRO stage.

``L = sum_t w_t * nll_t`` over the supervised tokens of ONE optimizer step, all ranks and
micro-batches. The plan gives every process the rows of the whole step, so the global counts need no
communication. With alpha_i the phase's weight of task i:

- token:  ``w_t = alpha_i(t) / sum_s alpha_i(s)``, s over the step's supervised tokens
- sample: ``w_t = alpha_i / (|y(t)| * sum over samples of alpha)``: every answer counts alike
- task:   ``w_t = alpha_i / (N_i * sum_k alpha_k)``, k over the *phase's* tasks: the mean inside a task
  by the step's count N_i. A task absent from the step adds 0; the weights are not renormalised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from trainer.config.schema import Normalization


def row_weights(
    normalization: Normalization,
    loss_weights: Mapping[str, float],
    phase_tasks: Sequence[str],
    tasks: Sequence[str],
    task_ids: np.ndarray,
    answer_tokens: np.ndarray,
) -> np.ndarray:
    """Loss weight of each supervised token of every row of a step.

    Args:
        loss_weights: task -> alpha; absent tasks have alpha 1.
        phase_tasks: the tasks the phase trains on; ``task`` normalisation sums their alphas.
        tasks: names that ``task_ids`` index into.
        task_ids: int [rows].
        answer_tokens: int [rows], supervised tokens of each row, at least 1.

    Returns:
        float64 [rows].
    """
    alpha_of = np.array([loss_weights.get(task, 1.0) for task in tasks])
    alpha = alpha_of[task_ids]
    if normalization is Normalization.token:
        total = float((alpha * answer_tokens).sum())
        return alpha / total if total else alpha
    if normalization is Normalization.sample:
        total = float(alpha.sum())
        return alpha / (answer_tokens * total) if total else alpha
    counts = np.bincount(task_ids, weights=answer_tokens, minlength=len(tasks))
    total = sum(loss_weights.get(task, 1.0) for task in phase_tasks)
    return alpha / (counts[task_ids] * total) if total else alpha
