"""The rows of a bad step, each with its own loss: which of them did it, and where a person finds them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare.find_rows import RowName, Wanted, find_rows
from trainer.evaluation.model import EvaluatedModel
from trainer.evaluation.train_losses import rows_nll


@dataclass(frozen=True)
class StepRow:
    """One row of a step under the model.

    Attributes:
        source: name of the task's source.
        row: its number in the phase's store.
        loss: mean nll of its answer tokens, in nats; not finite if one of them is not.
        tokens: its answer tokens.
        negative: its answer is wrong, and pushed away from.
    """

    task: str
    source: str
    row: int
    loss: float
    tokens: int
    negative: bool


def step_rows(
    model: EvaluatedModel,
    data: PhaseDataModule,
    phase: str,
    index: int,
    batch_size: int,
    rank: int,
) -> list[StepRow]:
    """The rows of a step, the highest loss first and before it those without one; collective.

    Losses are those of the model as it is now, without dropout.

    Args:
        index: 0-based within the phase.
        batch_size: rows of one forward per rank.
    """
    plan = data.plans[phase]
    store, rows = plan.store, np.asarray(plan.step_rows(index))
    found = [
        StepRow(
            task,
            store.sources[source].removeprefix(f"{task}/"),
            row,
            nll / tokens,
            tokens,
            sign < 0,
        )
        for row, task, source, nll, tokens, sign in zip(
            rows.tolist(),
            [store.tasks[task] for task in store.task_ids[rows]],
            store.source_ids[rows].tolist(),
            rows_nll(model, data, phase, rows, batch_size, rank),
            store.answer_tokens[rows].tolist(),
            store.signs[rows].tolist(),
            strict=True,
        )
    ]
    # where losses are alike, rows keep their order in the step
    return sorted(found, key=lambda row: -row.loss if math.isfinite(row.loss) else -math.inf)


def suspects(rows: Sequence[StepRow]) -> list[StepRow]:
    """Of rows as :func:`step_rows` has them, those that do it by themselves: without a finite loss.

    All rows where each has one: then it is the highest losses that come first.
    """
    return [row for row in rows if not math.isfinite(row.loss)] or list(rows)


def row_entries(data: PhaseDataModule, phase: str, rows: Sequence[StepRow]) -> list[dict[str, Any]]:
    """Rows as ``faults.jsonl`` has them; reads the ids of clean rows, so one rank is enough."""
    store = data.plans[phase].store
    wanted = [Wanted(int(store.row_keys[row.row]), row.negative) for row in rows]
    names = find_rows(data.cleaned.rows, wanted, data.tasks)
    nameless = RowName("", "")
    return [
        {
            "task": row.task,
            "source": row.source,
            "row_id": names.get(key, nameless).row_id,
            "origin": names.get(key, nameless).origin,
            "row_key": f"{key.row_key:016x}",
            "loss": number(row.loss),
            "tokens": row.tokens,
            "negative": row.negative,
        }
        for key, row in zip(wanted, rows, strict=True)
    ]


def number(value: float) -> float | str:
    """A number as JSON has it; what is not finite as a word."""
    return value if math.isfinite(value) else str(value)
