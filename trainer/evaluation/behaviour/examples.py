"""Right answers that a judge of behaviour learns from: a sample of the clean training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare.clean_rows import clean_rows
from data_modules.seeding import generator

#: Right answers of each task that a judge of behaviours learns from.
EXAMPLES_PER_TASK = 400


@dataclass(frozen=True, slots=True)
class Example:
    """A right answer.

    Attributes:
        request: first user turn as the user typed it.
        language: of the request; see ``data_modules.cleaning.language``.
    """

    request: str
    answer: str
    language: str


def training_examples(
    data: PhaseDataModule, limit_per_task: int, seed: int
) -> dict[str, list[Example]]:
    """Right answers of every task that has training rows, without its negatives, in their order.

    Tasks that no phase trains on are there too: an answer may show them all the same, and what a judge
    finds must not depend on the phases. A task's sample does not change with the other tasks.

    Args:
        limit_per_task: at most so many of each task, drawn without replacement.

    Raises:
        DataFault: unreadable files, or too many unusable rows.
    """
    others = [
        task
        for task, settings in data.data.tasks.items()
        if task not in data.trained_tasks and any(one.train for one in settings.sources.values())
    ]
    stores = dict.fromkeys(data.trained_tasks, data.cleaned.rows)
    if others:
        stores |= dict.fromkeys(others, clean_rows(data.data, others).rows)
    found: dict[str, list[Example]] = {}
    for task in data.data.tasks:
        if task not in stores:
            continue
        rows = stores[task].right_rows(task)
        if len(rows) > limit_per_task:
            draw = generator(seed, "behaviour", task)
            rows = rows[np.sort(draw.choice(len(rows), limit_per_task, replace=False))]
        records = stores[task].fetch(rows)
        found[task] = [
            Example(one.request, one.answer, one.language)
            for one in (records[int(row)] for row in rows)
        ]
    return found
