"""The guard at work: judges the steps of a run, names the rows behind a bad one, and writes it down."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_modules.phase_data_module import PhaseDataModule
from trainer.config.schema import Config
from trainer.console import LOGGER
from trainer.curriculum import Phase
from trainer.engine import StepFigures
from trainer.evaluation.model import EvaluatedModel
from trainer.faults import TrainingFault
from trainer.guard.guard import Action, Guard, Kind, Verdict
from trainer.guard.limit import Limit
from trainer.guard.rows import number, row_entries, step_rows, suspects

#: Rows that a message names; ``faults.jsonl`` has all.
NAMED = 5


class StepGuard:
    """The guard of one run; all methods are called on every rank alike.

    Args:
        model: the one in training.
        path: the run's ``faults.jsonl``; one line is written for every bad step.
    """

    def __init__(
        self,
        config: Config,
        model: EvaluatedModel,
        data: PhaseDataModule,
        rank: int,
        path: Path,
    ) -> None:
        self.guard = Guard(config.faults, data.tasks)
        self._model, self._data, self._rank, self._path = model, data, rank, path
        # as many rows as a micro-batch has, or with packing as surely fit into one
        self._batch_size = config.micro_batch_size

    def limit_for(self, answer_tokens: Mapping[str, int]) -> Limit:
        """What a step may lose; for ``ZeroEngine.train_step`` and :meth:`after_step`.

        Args:
            answer_tokens: task -> answer tokens of its right answers in the step.
        """
        return self.guard.limit_for(answer_tokens)

    def after_step(
        self,
        phase: Phase,
        step: int,
        figures: StepFigures,
        answer_tokens: Mapping[str, int],
        limit: Limit,
    ) -> Verdict | None:
        """Judge a step by its figures; None if it is fine.

        Args:
            step: its global number.
            limit: what :meth:`limit_for` said before the step.

        Returns:
            A verdict to ``rollback`` is the caller's to carry out. After ``warn`` the step was trained on,
            after ``skip`` it changed nothing; training goes on.

        Raises:
            TrainingFault: the run must stop; the model is as it was before the step.
        """
        verdict = self.guard.judge(step, figures, answer_tokens, limit)
        if verdict is None:
            return None
        index = step - phase.first_step
        rows = step_rows(self._model, self._data, phase.name, index, self._batch_size, self._rank)
        entries: list[dict[str, Any]] = []
        if self._rank == 0:
            entries = row_entries(self._data, phase.name, suspects(rows))
            self._write(phase, verdict, entries, len(rows))
        words = _words(phase, verdict, entries, len(rows))
        if verdict.action is Action.stop:
            raise TrainingFault(f"{words}\n{_remedy(verdict, entries, self._path)}")
        LOGGER.warning("%s", words)
        return verdict

    def _write(
        self, phase: Phase, verdict: Verdict, entries: list[dict[str, Any]], rows: int
    ) -> None:
        limit = verdict.limit
        watched = limit.tokens > 0
        entry = {
            "step": verdict.step,
            "phase": phase.name,
            "kind": verdict.kind.value,
            "action": verdict.action.value,
            "why": verdict.why,
            "stops_because": verdict.stops_because,
            "pass_over": list(verdict.pass_over),
            "loss": number(verdict.loss),
            "grad_norm": number(verdict.grad_norm),
            # nats per answer token of the tasks that were watched
            "expected": limit.expected / limit.tokens if watched else None,
            "limit": limit.most / limit.tokens if watched else None,
            "rows_of_step": rows,
            "rows": entries,
        }
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry, ensure_ascii=False) + "\n")

    @property
    def skipped_steps(self) -> list[int]:
        """Global steps that were skipped, ascending."""
        return self.guard.skipped_steps

    def state(self) -> dict[str, Any]:
        """See ``Guard``."""
        return self.guard.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """See ``Guard``."""
        self.guard.restore(state)

    def roll_back(self, state: Mapping[str, Any] | None) -> None:
        """See ``Guard``."""
        self.guard.roll_back(state)


_DONE = {
    Action.warn: "it was trained on all the same",
    Action.skip: "it was left out, the model is as it was before",
    Action.rollback: "back to the last checkpoint, and past it",
    Action.stop: "the run stops, the model is as it was before",
}


def _words(phase: Phase, verdict: Verdict, entries: Sequence[dict[str, Any]], rows: int) -> str:
    """A verdict in words, with the rows behind it where they are known."""
    text = (
        f"step {verdict.step} (phase '{phase.name}'), {verdict.kind.value}: {verdict.why}; "
        f"{verdict.stops_because or _DONE[verdict.action]}"
    )
    if not entries:
        return text
    if len(entries) == rows and verdict.kind is not Kind.spike:
        return f"{text}. No row of it by itself has a loss that is not finite; {_named(entries)}"
    return f"{text}. {_named(entries)}"


def _named(entries: Sequence[dict[str, Any]]) -> str:
    named = [
        f"{one['task']} {one['row_id'] or one['row_key']} ({_loss(one['loss'])} nats a token)"
        for one in entries[:NAMED]
    ]
    more = f" and {len(entries) - NAMED} more" if len(entries) > NAMED else ""
    return f"its rows: {', '.join(named)}{more}, in faults.jsonl"


def _loss(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.3g}"


def _remedy(verdict: Verdict, entries: Sequence[dict[str, Any]], path: Path) -> str:
    """What to do about a run that stopped."""
    tries = []
    if any(isinstance(one["loss"], str) for one in entries) or verdict.kind is Kind.spike:
        tries.append(
            f"look at the rows in {path} and mend them, or leave them out by their id "
            "(data.cleaning.drop)"
        )
    tries.append("lower the phase's lr or lengthen its warm-up")
    if verdict.kind is Kind.spike:
        tries.append(
            "allow more with faults.spike_factor and faults.spike_margin, or choose faults.spike=warn"
        )
    return (
        f"To go on: {'; '.join(tries)}. The same command then continues from the last checkpoint."
    )
