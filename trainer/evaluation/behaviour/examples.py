"""Right answers that a judge of behaviour learns from: a sample of the clean training rows."""

from __future__ import annotations

from dataclasses import dataclass

from data_modules.phase_data_module import PhaseDataModule
from data_modules.seeding import generator


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
    """Right answers of every trained task, without its negatives, in the order of the rows.

    A task's sample does not change with the other tasks.

    Args:
        limit_per_task: at most so many of each task, drawn without replacement.
    """
    clean = data.cleaned.rows
    found: dict[str, list[Example]] = {}
    for task in data.trained_tasks:
        rows = clean.right_rows(task)
        if len(rows) > limit_per_task:
            draw = generator(seed, "behaviour", task)
            rows = rows[sorted(draw.choice(len(rows), limit_per_task, replace=False))]
        records = clean.fetch(rows)
        found[task] = [
            Example(one.request, one.answer, one.language)
            for one in (records[int(row)] for row in rows)
        ]
    return found
