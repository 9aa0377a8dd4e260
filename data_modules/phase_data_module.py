"""The phase-aware data module: prepares samples once, plans every phase, serves any step by index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.chat import ChatFormat
from data_modules.collate import Batch, collate
from data_modules.config import BoundaryConfig, DataConfig, PromptSet
from data_modules.disk import written_below
from data_modules.evaluation_rows import EvalRow, read_eval_rows
from data_modules.mixture import MixtureConfig
from data_modules.packing import lay_out
from data_modules.phase_plan import PhasePlan
from data_modules.plan import plan_phase
from data_modules.plan_bounds import Undecided, step_bounds
from data_modules.prepare.clean_rows import Cleaned, clean_rows
from data_modules.prepare.clean_unit import REJECTS_FILE
from data_modules.prepare.evaluation_records import read_all_eval_records
from data_modules.prepare.fingerprints import plan_fingerprint, tokens_fingerprint
from data_modules.prepare.pool import Progress, silent
from data_modules.prepare.tokenise import read_stats, tokenise
from data_modules.prepare.tokeniser import TokenStats, Wording
from data_modules.records import Reject
from data_modules.rejects import RejectCounts, add_counts
from data_modules.roles import resolve_roles
from data_modules.samples import SampleStore
from data_modules.sealing import is_whole, made_anew
from data_modules.slicing import slice_of
from data_modules.wording import phase_boundary


@dataclass
class PhaseDataModule:
    """Serves the batches of every step of every phase.

    ``prepare`` does the reading and tokenising and may run in one process per host; ``load`` then
    maps the result in every process. Both are pure functions of the constructor's arguments.

    Attributes:
        mixtures: phase name -> mixture, in training order.
        max_steps: plan at most this many steps of every phase; None plans them whole.
        undecided: phases whose tasks are picked when they start: their mixtures name every task that
            may be picked. They are planned after :meth:`decide`.
        plans: phase name -> plan, after ``load``.
    """

    data: DataConfig
    boundary: BoundaryConfig
    mixtures: Mapping[str, MixtureConfig]
    tokenizer: Any
    seed: int
    global_batch_size: int
    max_steps: int | None = None
    undecided: dict[str, Undecided] = field(default_factory=dict)
    plans: dict[str, PhasePlan] = field(default_factory=dict)
    _stores: dict[Path, SampleStore] = field(default_factory=dict)
    _folders: dict[str, Path] = field(default_factory=dict)
    _eval_rows: dict[Any, tuple[dict[str, list[EvalRow]], list[Reject]]] = field(
        default_factory=dict
    )

    def __post_init__(self) -> None:
        self.chat = ChatFormat(self.tokenizer, self.data.chat_template)
        roles = [resolve_roles(self.data, mixture) for mixture in self.mixtures.values()]
        #: All defined tasks; a task's id is its place here, whichever phases run.
        self.tasks = tuple(sorted(self.data.tasks))
        self.evaluated_tasks = tuple(
            task for task in self.tasks if self.data.tasks[task].is_evaluated
        )
        self.trained_tasks = tuple(
            sorted({task for role in roles for task in role.main + role.rest + role.general})
        )

    def boundary_of(self, phase: str) -> BoundaryConfig:
        """The boundary texts that a phase's prompts carry."""
        return phase_boundary(self.boundary, self.mixtures[phase])

    def wording(self, phase: str) -> Wording:
        """How a phase words its requests."""
        prompts = self.mixtures[phase].prompts
        return Wording(phase, self.boundary_of(phase), prompts, self.seed)

    @cached_property
    def cleaned(self) -> Cleaned:
        """The clean rows of all trained tasks; made if they are not there yet.

        Raises:
            DataFault: unreadable files, or too many unusable rows.
        """
        return clean_rows(self.data, self.trained_tasks)

    def prepare(self, progress: Progress = silent) -> None:
        """Read, clean, tokenise and plan what is not cached yet.

        Raises:
            DataFault: unreadable files, too many unusable rows, no room for what is made of them, or as
            in :meth:`make_plan`.
        """
        # Read for its faults alone: a bad evaluation file must not stop a run at its first phase end.
        read_all_eval_records(self.data)
        with self._writing():
            self._prepare(progress)

    def _prepare(self, progress: Progress) -> None:
        self._keep_cleaned(clean_rows(self.data, self.trained_tasks, progress))
        if not all(is_whole(self.store_folder(phase)) for phase in self.mixtures):
            # they are read: a look at the sizes of their files is not enough
            self._keep_cleaned(clean_rows(self.data, self.trained_tasks, progress, thorough=True))
        for phase in self.mixtures:
            tokenise(
                self.tasks,
                self.cleaned,
                self.data,
                self.wording(phase),
                self.chat,
                self.store_folder(phase),
                progress,
            )
        for phase in self.mixtures:
            if phase in self.undecided:
                self.step_bounds(phase)  # for its faults: they must show before training
            else:
                self.prepare_plan(phase)

    def _keep_cleaned(self, cleaned: Cleaned) -> None:
        self.__dict__["cleaned"] = cleaned

    def _writing(self) -> AbstractContextManager[None]:
        """Work that writes to the cache: a full or read-only disk is the user's fault."""
        return written_below("data.cache_dir", Path(self.data.cache_dir))

    def prepare_plan(self, phase: str) -> None:
        """Plan a phase, unless its plan is cached.

        Raises:
            DataFault: as in :meth:`make_plan`.
        """
        folder = self.plan_folder(phase)
        with self._writing():
            if made_anew(folder):
                self.make_plan(phase).save(folder)

    def load(self) -> None:
        """Map the prepared samples and plans."""
        for phase in self.mixtures:
            if phase not in self.undecided:
                self.load_plan(phase)

    def load_plan(self, phase: str) -> None:
        """Map a prepared plan."""
        self.plans[phase] = PhasePlan.load(self.plan_folder(phase), self.store(phase))

    def decide(self, phase: str, tasks: Sequence[str]) -> None:
        """Say which tasks an undecided phase trains on; its plan is then made like the others'."""
        del self.undecided[phase]
        mixture = replace(self.mixtures[phase], tasks=list(tasks))
        self.mixtures = {**self.mixtures, phase: mixture}

    def step_bounds(self, phase: str) -> tuple[int, int]:
        """Fewest and most steps of an undecided phase.

        Raises:
            DataFault: some choice of its tasks could not be planned.
        """
        losses = self.data.row_losses
        return step_bounds(
            phase,
            self.mixtures[phase],
            resolve_roles(self.data, self.mixtures[phase]),
            self.undecided[phase],
            self.store(phase),
            self.global_batch_size,
            self.seed,
            self.data.rows_per_task,
            self.max_steps,
            self._source_weights(),
            None if losses is None else Path(losses),
        )

    def make_plan(self, phase: str) -> PhasePlan:
        """Draw and order the rows of a phase.

        Raises:
            DataFault: the phase draws from a task without usable rows, or lacks what its balance or
                order needs.
        """
        losses = self.data.row_losses
        return plan_phase(
            phase,
            self.mixtures[phase],
            resolve_roles(self.data, self.mixtures[phase]),
            self.store(phase),
            self.global_batch_size,
            self.seed,
            self.data.rows_per_task,
            self.max_steps,
            source_weights=self._source_weights(),
            row_losses=None if losses is None else Path(losses),
        )

    def _source_weights(self) -> dict[str, float]:
        return {
            f"{task}/{name}": source.weight
            for task, settings in self.data.tasks.items()
            for name, source in settings.sources.items()
        }

    def store(self, phase: str) -> SampleStore:
        """The samples that a phase draws from, memory-mapped."""
        folder = self.store_folder(phase)
        if folder not in self._stores:
            self._stores[folder] = SampleStore.load(folder)
        return self._stores[folder]

    def plan_folder(self, phase: str) -> Path:
        """Where the plan of a phase lies."""
        mixture = self.mixtures[phase]
        name = plan_fingerprint(
            self.store_folder(phase).name,
            phase,
            mixture,
            resolve_roles(self.data, mixture),
            [self.global_batch_size, self.seed, self.data.rows_per_task, self.max_steps],
            self._source_weights(),
            self.data.row_losses,
        )
        return Path(self.data.cache_dir) / "plans" / name[:20]

    def store_folder(self, phase: str) -> Path:
        """Where the samples of a phase lie; phases that word alike share them."""
        if phase not in self._folders:  # hashing a large tokenizer takes a good part of a second
            wording = self.wording(phase)
            name = tokens_fingerprint(
                self.cleaned.fingerprint,
                self.data,
                self.trained_tasks,
                wording.boundary,
                wording.prompts,
                phase,
                self.seed,
                self.tokenizer,
            )
            self._folders[phase] = Path(self.data.cache_dir) / "samples" / name[:20]
        return self._folders[phase]

    def token_stats(self, phase: str) -> TokenStats:
        """What tokenising for a phase refused, and how its requests were worded."""
        return read_stats(self.store_folder(phase))

    def rejects_file(self, phase: str) -> Path:
        """JSON lines of every training row that the phase's samples leave out or cut short."""
        return self.store_folder(phase) / REJECTS_FILE

    def rejects(self, phase: str) -> RejectCounts:
        """Training rows left out, or cut short (rule ``truncated``): task -> rule -> count."""
        return add_counts([self.cleaned.rejects(), self.token_stats(phase).rejects])

    def step_batches(
        self,
        phase: str,
        step: int,
        row_weights: np.ndarray,
        rank: int,
        world_size: int,
        micro_batch_size: int,
        parts: int = 1,
    ) -> list[Batch]:
        """The micro-batches of one rank for one step of a phase; as many on every rank.

        Args:
            step: 0-based within the phase.
            row_weights: float64 [rows of the step], loss weight of each row's supervised tokens.
            parts: neighbouring ranks that share each micro-batch, a slice of its positions each.
        """
        rows = self.plans[phase].step_rows(step)
        return self.rank_batches(
            phase, rows, row_weights, rank, world_size, micro_batch_size, parts
        )

    def rank_batches(
        self,
        phase: str,
        rows: np.ndarray,
        row_weights: np.ndarray,
        rank: int,
        world_size: int,
        micro_batch_size: int,
        parts: int = 1,
    ) -> list[Batch]:
        """One rank's micro-batches of some rows of a phase's store; as many on every rank.

        Args:
            rows: int [n], n >= 1.
            row_weights: float64 [n], as in :meth:`step_batches`.
            parts: as in :meth:`step_batches`.
        """
        store = self.plans[phase].store
        lengths = store.lengths_of(rows)
        layout = lay_out(
            lengths,
            world_size // parts,
            micro_batch_size,
            self.data.max_seq_len,
            self.data.packing,
        )
        shortest = np.array([int(np.argmin(lengths))])
        pad = self.tokenizer.pad_token_id or 0
        batches = []
        for micro_step in layout:
            mine = micro_step[rank // parts]
            empty = not len(mine)
            mine = shortest if empty else mine
            batch = collate(store, rows[mine], row_weights[mine], pad, self.data.packing, empty)
            batches.append(slice_of(batch, rank % parts, parts, pad) if parts > 1 else batch)
        return batches

    def eval_rows(
        self, phase: str, limit: int | None, prompt_set: PromptSet = PromptSet.ordinary
    ) -> tuple[dict[str, list[EvalRow]], list[Reject]]:
        """Evaluation rows with the prompts of a phase; see ``evaluation_rows.read_eval_rows``.

        They are read once; phases with equal boundary texts share them.
        """
        boundary = self.boundary_of(phase)
        key = (boundary.tag, boundary.constraint, limit, prompt_set)
        if key not in self._eval_rows:
            self._eval_rows[key] = read_eval_rows(self.data, boundary, self.chat, limit, prompt_set)
        return self._eval_rows[key]
