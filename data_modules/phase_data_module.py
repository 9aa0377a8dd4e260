"""The phase-aware data module: prepares samples once, plans every phase, serves any step by index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.chat import ChatFormat
from data_modules.collate import Batch, collate
from data_modules.config import BoundaryConfig, DataConfig
from data_modules.mixture import MixtureConfig
from data_modules.packing import lay_out
from data_modules.phase_plan import PhasePlan
from data_modules.plan import plan_phase
from data_modules.reading import count_rejects, read_tasks, write_rejects
from data_modules.records import Reject
from data_modules.roles import resolve_roles
from data_modules.samples import SampleStore
from data_modules.tokenise import NO_BOUNDARY, encode, store_fingerprint, tokenise


@dataclass(frozen=True)
class EvalRow:
    """One evaluation row: the prompt's and the whole conversation's tokens, and the gold answer."""

    task: str
    prompt_ids: list[int]
    input_ids: list[int]
    supervised: np.ndarray
    answer: str
    origin: str


@dataclass
class PhaseDataModule:
    """Serves the batches of every step of every phase.

    ``prepare`` does the reading and tokenising and may run in one process per host; ``load`` then
    maps the result in every process. Both are pure functions of the constructor's arguments.

    Attributes:
        mixtures: phase name -> mixture, in training order.
        max_steps: plan at most this many steps of every phase; None plans them whole.
        plans: phase name -> plan, after ``load``.
    """

    data: DataConfig
    boundary: BoundaryConfig
    mixtures: Mapping[str, MixtureConfig]
    tokenizer: Any
    seed: int
    global_batch_size: int
    max_steps: int | None = None
    plans: dict[str, PhasePlan] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.chat = ChatFormat(self.tokenizer, self.data.chat_template)
        roles = [resolve_roles(self.data, mixture) for mixture in self.mixtures.values()]
        #: All defined tasks; a task's id is its place here, whichever phases run.
        self.tasks = tuple(sorted(self.data.tasks))
        self.evaluated_tasks = tuple(
            task for task in self.tasks if self.data.tasks[task].source.eval
        )
        self.trained_tasks = tuple(
            sorted({task for role in roles for task in role.main + role.rest + role.general})
        )

    def boundary_of(self, phase: str) -> BoundaryConfig:
        """The boundary texts that a phase's prompts carry."""
        return self.boundary if self.mixtures[phase].boundary else NO_BOUNDARY

    def prepare(self) -> None:
        """Tokenise what is not cached yet.

        Raises:
            DataFault: unreadable files, or too many unusable rows.
        """
        # Read for its faults alone: a bad evaluation file must not stop a run at its first phase end.
        read_tasks(self.data, self.evaluated_tasks, "eval")
        records, rejects = read_tasks(self.data, self.trained_tasks, "train")
        for phase in self.mixtures:
            folder = self._folder(phase)
            if folder.is_dir() and self.rejects_file(phase).is_file():
                continue
            store, refused = tokenise(
                self.tasks, records, self.data, self.boundary_of(phase), self.chat
            )
            write_rejects(rejects + refused, self.rejects_file(phase))
            store.save(folder)

    def load(self) -> None:
        """Map the prepared samples and plan every phase.

        Raises:
            DataFault: a phase draws from a task without usable rows.
        """
        stores: dict[Path, SampleStore] = {}
        for phase, mixture in self.mixtures.items():
            folder = self._folder(phase)
            store = stores.setdefault(folder, SampleStore.load(folder))
            self.plans[phase] = plan_phase(
                phase,
                mixture,
                resolve_roles(self.data, mixture),
                store,
                self.global_batch_size,
                self.seed,
                self.data.rows_per_task,
                self.max_steps,
            )

    def rejects_file(self, phase: str) -> Path:
        """JSON lines of every training row that the phase's samples leave out or cut short."""
        return self._folder(phase).with_suffix(".rejects.jsonl")

    def rejects(self, phase: str) -> dict[str, dict[str, int]]:
        """Training rows left out, or cut short (rule ``truncated``): task -> rule -> count."""
        with self.rejects_file(phase).open(encoding="utf-8") as file:
            return count_rejects(Reject(**json.loads(line)) for line in file)

    def _folder(self, phase: str) -> Path:
        boundary = self.boundary_of(phase)
        key = (boundary.tag, boundary.constraint)
        cached: dict[tuple[bool, bool], Path] = self.__dict__.setdefault("_folders", {})
        if key not in cached:
            name = store_fingerprint(self.data, self.trained_tasks, boundary, self.tokenizer)
            cached[key] = Path(self.data.cache_dir) / name[:20]
        return cached[key]

    def step_batches(
        self,
        phase: str,
        step: int,
        row_weights: np.ndarray,
        dp_rank: int,
        dp_world_size: int,
        micro_batch_size: int,
    ) -> list[Batch]:
        """The micro-batches of one rank for one step of a phase; as many on every rank.

        Args:
            step: 0-based within the phase.
            row_weights: float64 [rows of the step], loss weight of each row's supervised tokens.
        """
        plan = self.plans[phase]
        rows = plan.step_rows(step)
        layout = lay_out(
            plan.store.lengths[rows],
            dp_world_size,
            micro_batch_size,
            self.data.max_seq_len,
            self.data.packing,
        )
        shortest = np.array([int(np.argmin(plan.store.lengths[rows]))])
        batches = []
        for micro_step in layout:
            mine = micro_step[dp_rank]
            empty = not len(mine)
            mine = shortest if empty else mine
            batches.append(
                collate(
                    plan.store,
                    rows[mine],
                    row_weights[mine],
                    self.tokenizer.pad_token_id or 0,
                    self.data.packing,
                    empty,
                )
            )
        return batches

    def eval_rows(
        self, phase: str, limit: int | None
    ) -> tuple[dict[str, list[EvalRow]], list[Reject]]:
        """Evaluation rows of every task that has an evaluation source.

        The first ``limit`` that fit of each (None takes all); a row longer than ``max_seq_len`` is
        refused. Prompts carry the phase's boundary texts.
        """
        records, rejects = read_tasks(self.data, self.evaluated_tasks, "eval")
        result: dict[str, list[EvalRow]] = {}
        for task, rows in records.items():
            result[task] = []
            for record in rows:
                if len(result[task]) == limit:
                    break
                messages, ids, mask = encode(
                    record, self.data.tasks[task], self.boundary_of(phase), self.chat
                )
                if len(ids) > self.data.max_seq_len:
                    reason = f"{len(ids)} tokens, data.max_seq_len is {self.data.max_seq_len}"
                    rejects.append(Reject(task, record.origin, "overlong", reason, ""))
                    continue
                prompt = self.chat.prompt(messages[:-1])
                answer = messages[-1].content
                result[task].append(EvalRow(task, prompt, ids, mask, answer, record.origin))
        return result, rejects
