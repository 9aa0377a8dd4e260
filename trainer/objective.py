"""The weights of a step's loss: exact for any world size, micro-batch, packing and ZeRO stage.

``L = sum_t w_t * nll_t`` over the supervised tokens of ONE optimizer step, all ranks and
micro-batches. The plan gives every process the rows of the whole step, so the global counts need no
communication. With alpha_i the phase's weight of task i:

- token:  ``w_t = alpha_i(t) / sum_s alpha_i(s)``, s over the step's supervised tokens
- sample: ``w_t = alpha_i / (|y(t)| * sum over samples of alpha)``: every answer counts alike
- task:   ``w_t = alpha_i / (N_i * sum_k alpha_k)``, k over the *phase's* tasks: the mean inside a task
  by the step's count N_i. A task absent from the step adds 0; the weights are not renormalised.

All sums and counts are those of the positives. Negatives add ``sum_t w_t * -log(1 - p_t)`` with
``negative_weight`` times the weight that the same rules give them, without being counted: a negative
token (``sample``: answer) weighs that share of a positive one of its task. Two cases need a rule:

- task, and the step has no positive of the negative's task: N_i is the mean of the tasks that it has;
- the step has no positive that weighs anything: the negatives are counted in their place.
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
    signs: np.ndarray,
    negative_weight: float,
) -> np.ndarray:
    """Signed loss weight of each supervised token of every row of a step.

    Args:
        loss_weights: task -> alpha; absent tasks have alpha 1.
        phase_tasks: the tasks the phase trains on; ``task`` normalisation sums their alphas.
        tasks: names that ``task_ids`` index into.
        task_ids: int [rows].
        answer_tokens: int [rows], supervised tokens of each row, at least 1.
        signs: int8 [rows], 1, or -1 for negatives.
        negative_weight: weight of negatives relative to positives (``NegativesConfig.weight``).

    Returns:
        float64 [rows]; the sign bit is set for negatives, also where the weight is 0.
    """
    alpha_of = np.array([loss_weights.get(task, 1.0) for task in tasks])
    alpha = alpha_of[task_ids]
    counted = signs > 0
    if not alpha[counted].any():
        counted = np.ones(len(signs), dtype=bool)
    # What a row's alpha is divided by.
    if normalization is Normalization.token:
        norm = np.full(len(alpha), float((alpha * answer_tokens)[counted].sum()))
    elif normalization is Normalization.sample:
        norm = answer_tokens * float(alpha[counted].sum())
    else:
        counts = np.bincount(
            task_ids[counted], weights=answer_tokens[counted], minlength=len(tasks)
        )
        counts[counts == 0] = counts[counts > 0].mean()
        norm = counts[task_ids] * sum(loss_weights.get(task, 1.0) for task in phase_tasks)
    weights = np.divide(alpha, norm, out=np.zeros(len(alpha)), where=norm > 0)
    return np.copysign(np.where(signs > 0, 1.0, negative_weight) * weights, signs)
