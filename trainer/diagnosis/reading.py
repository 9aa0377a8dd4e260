"""A run's files as the rules look at them: totals over phases, the newest figures, answers on demand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from trainer.evaluation.results import ORDINARY, Evaluation, Figure, TaskResult
from trainer.run_directory import read_json_lines
from trainer.run_facts import RunFacts


@dataclass(frozen=True)
class Use:
    """What a run used of one task over all its phases.

    Attributes:
        rows: rows trained on, repeats counted, negatives apart.
        distinct: different rows among them, as far as the largest phase tells.
        answer_tokens: supervised tokens.
    """

    rows: int
    distinct: int
    answer_tokens: int

    @property
    def repeats(self) -> float:
        """How often a row was trained on, on average."""
        return self.rows / max(1, self.distinct)


class Reading:
    """A run; everything is read once.

    Attributes:
        tasks: task -> its settings in ``config.yaml``.
        phases: phase -> its settings, for the phases that the plan has, in training order.
    """

    def __init__(self, facts: RunFacts) -> None:
        self.facts = facts
        self.config: Mapping[str, Any] = facts.config
        self.tasks: dict[str, dict[str, Any]] = facts.config["data"]["tasks"]
        self.phases: dict[str, dict[str, Any]] = {
            name: facts.config["curriculum"]["phases"][name] for name in facts.phases
        }
        self._predictions: dict[tuple[str, str], list[dict[str, Any]]] = {}

    # -- what was asked for

    @property
    def general(self) -> list[str]:
        """The general tasks."""
        return [name for name, task in self.tasks.items() if task["general"]]

    def planned(self, phase: str) -> dict[str, dict[str, Any]]:
        """Task -> what the plan says that a phase uses of it."""
        return self.facts.plan["phases"][phase]["tasks"]

    @cached_property
    def steps_planned(self) -> dict[str, int]:
        """Phase -> optimizer steps."""
        return {
            name: entry["last_step"] - entry["first_step"] + 1
            for name, entry in self.facts.plan["phases"].items()
        }

    @cached_property
    def use(self) -> dict[str, Use]:
        """Task -> use over all phases."""
        found: dict[str, Use] = {}
        for phase in self.phases:
            for task, one in self.planned(phase).items():
                old = found.get(task, Use(0, 0, 0))
                found[task] = Use(
                    old.rows + one["rows"],
                    max(old.distinct, one["distinct"]),
                    old.answer_tokens + one["answer_tokens"],
                )
        return found

    def has_boundary(self, phase: str) -> bool:
        """Whether a phase's prompts carry tags or constraints."""
        boundary = self.config["boundary"]
        return bool(self.phases[phase]["boundary"] and (boundary["tag"] or boundary["constraint"]))

    # -- what happened

    @cached_property
    def steps(self) -> dict[str, list[dict[str, Any]]]:
        """Phase -> its step entries, in order."""
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in self.phases}
        for entry in self.facts.steps:
            if entry["phase"] in found:
                found[entry["phase"]].append(entry)
        return found

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """Column -> evaluation, in training order."""
        return self.facts.evaluations

    @property
    def last_column(self) -> str:
        """Column of the newest evaluation."""
        return list(self.evaluations)[-1]

    @cached_property
    def evaluated(self) -> dict[str, TaskResult]:
        """Task -> newest result; empty without an evaluation after training began."""
        trained = set(self.phases) & set(self.evaluations)
        last = self.facts.last
        return dict(last.tasks) if last is not None and trained else {}

    @cached_property
    def special(self) -> dict[str, TaskResult]:
        """The specialised tasks among ``evaluated``."""
        return {name: one for name, one in self.evaluated.items() if not one.general}

    @cached_property
    def scores(self) -> dict[str, Figure]:
        """Specialised task -> newest score, where one was judged."""
        found = {name: one.score for name, one in self.special.items()}
        return {name: score for name, score in found.items() if score is not None}

    def scores_of(self, task: str) -> dict[str, Figure]:
        """Column -> a task's score, where one was judged."""
        found = {
            column: one.tasks[task].score
            for column, one in self.evaluations.items()
            if task in one.tasks
        }
        return {column: score for column, score in found.items() if score is not None}

    def losses_of(self, task: str) -> dict[str, float]:
        """Column -> a task's evaluation loss, in nats."""
        return {
            column: one.tasks[task].loss
            for column, one in self.evaluations.items()
            if task in one.tasks
        }

    def predictions(self, task: str, prompt_set: str = ORDINARY) -> list[dict[str, Any]]:
        """The newest answers of a task to a prompt set; none where none were kept."""
        key = task, prompt_set
        if key not in self._predictions:
            self._predictions[key] = (
                self.facts.predictions(self.last_column, prompt_set, task)
                if self.evaluations
                else []
            )
        return self._predictions[key]

    @cached_property
    def has_predictions(self) -> bool:
        """Whether any specialised task's answers were kept."""
        return any(self.predictions(task) for task in self.special)

    @cached_property
    def train_rows(self) -> dict[str, list[dict[str, Any]]]:
        """Task -> sampled training rows with their newest losses (``train_losses.jsonl``)."""
        found: dict[str, list[dict[str, Any]]] = {}
        if not self.evaluations:
            return found
        folder = self.facts.directory.evaluation(self.last_column).parent
        for row in read_json_lines(folder / "train_losses.jsonl"):
            found.setdefault(row["task"], []).append(row)
        return found
