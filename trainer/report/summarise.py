"""A run in the figures that runs are compared by."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from data_modules.faults import DataFault, Fault
from trainer.evaluation.results import Figure
from trainer.report.combining import mean_of
from trainer.report.headline import Headline, headline
from trainer.run_directory import INITIAL
from trainer.run_facts import RunFacts

_SEED_IN_NAME = re.compile(r"[-_]seed[-_]?\d+$")
#: Configuration that does not make two runs different experiments.
_INCIDENTAL = ("seed", "run_name", "output_dir")


@dataclass(frozen=True)
class RunSummary:
    """What a comparison needs to know of a run.

    Attributes:
        name: ``run_name``.
        stem: ``run_name`` without a trailing ``-seedN``; equal to it where there is none.
        settings: digest of the configuration without seed, name and folder.
        column: the evaluation that ``figures`` are of: the newest.
        steps: optimizer steps trained.
        figures: of the newest evaluation.
        before: of the weights the run started from; None where they were not evaluated.
        train_rows: specialised task -> training rows it has, negatives apart; the most of any phase.
    """

    name: str
    stem: str
    settings: str
    seed: int
    column: str
    steps: int
    figures: Headline
    before: Headline | None
    train_rows: dict[str, int]

    @property
    def rare_tasks(self) -> tuple[str, ...]:
        """The third of the specialised tasks with the fewest rows, ties with it; none if all tie."""
        counts = sorted(self.train_rows.values())
        if len(counts) < 2:
            return ()
        most = counts[max(1, len(counts) // 3) - 1]
        rare = tuple(sorted(task for task, rows in self.train_rows.items() if rows <= most))
        return rare if len(rare) < len(counts) else ()

    def score_of(self, tasks: tuple[str, ...]) -> Figure | None:
        """Mean score of some tasks; None unless all of them have one."""
        if not tasks or not all(task in self.figures.scores for task in tasks):
            return None
        return mean_of([self.figures.scores[task] for task in tasks])


def summarise(facts: RunFacts) -> RunSummary:
    """The figures of a run.

    Raises:
        DataFault: the run has no evaluation.
    """
    if facts.last is None:
        raise DataFault(
            Fault(
                str(facts.directory.root),
                "no evaluation.json",
                "runs are compared by their last evaluation",
                "Wait for the end of a phase, or train with evaluation.at_phase_end=true.",
            )
        )
    before = facts.evaluations.get(INITIAL)
    name = str(facts.config["run_name"])
    return RunSummary(
        name=name,
        stem=_SEED_IN_NAME.sub("", name),
        settings=_digest(facts.config),
        seed=int(facts.config["seed"]),
        column=list(facts.evaluations)[-1],
        steps=int(facts.steps[-1]["step"]) if facts.steps else 0,
        figures=headline(facts.last),
        before=headline(before) if before is not None else None,
        train_rows=_train_rows(facts),
    )


def _train_rows(facts: RunFacts) -> dict[str, int]:
    rows: dict[str, int] = {}
    for phase in facts.plan["phases"].values():
        for task, use in phase["tasks"].items():
            if not is_general(facts, task):
                rows[task] = max(rows.get(task, 0), int(use["available"]))
    return rows


def is_general(facts: RunFacts, task: str) -> bool:
    """Whether the configuration declares a task general."""
    return bool(facts.config["data"]["tasks"].get(task, {}).get("general", False))


def _digest(config: Mapping[str, Any]) -> str:
    kept = {key: value for key, value in config.items() if key not in _INCIDENTAL}
    return hashlib.sha256(json.dumps(kept, sort_keys=True, default=str).encode()).hexdigest()
