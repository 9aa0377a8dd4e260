"""What an evaluation needs of a model, live in an engine or loaded from a directory."""

from __future__ import annotations

from typing import Any, Protocol

import torch

from data_modules.collate import Batch
from trainer.loss import NLL, MultiTaskLM, inputs_of, rows_as_tasks


class EvaluatedModel(Protocol):
    """A model on this rank; every method is called on all ranks alike.

    Attributes:
        tasks: number of tasks of the data.
        gathers_weights: each forward gathers weights from all ranks, so all must run as many.
    """

    device: torch.device
    world_size: int
    tasks: int

    @property
    def gathers_weights(self) -> bool: ...

    @property
    def causal_model(self) -> Any:
        """The Hugging Face model, for ``generate``."""

    def nll(self, batch: Batch) -> torch.Tensor:
        """nll sum of each task, float64 [tasks], this rank's batch only; no gradients."""

    def row_nll(self, batch: Batch) -> torch.Tensor:
        """nll sum of each row of an unpacked batch, float64 [rows]; no gradients."""

    def eval(self) -> None:
        """Switch dropout off."""


class LoadedModel:
    """A model that is only evaluated: whole on every rank, without an engine."""

    gathers_weights = False

    def __init__(self, model: Any, tasks: int, device: torch.device, world_size: int) -> None:
        self._module = MultiTaskLM(model.to(device).eval(), tasks)
        self.causal_model, self.tasks = model, tasks
        self.device, self.world_size = device, world_size

    @torch.no_grad()
    def nll(self, batch: Batch) -> torch.Tensor:
        """As :class:`EvaluatedModel` has it."""
        _, sums = self._module(**inputs_of(batch, self.device))
        return sums[NLL]

    @torch.no_grad()
    def row_nll(self, batch: Batch) -> torch.Tensor:
        """As :class:`EvaluatedModel` has it."""
        inputs = inputs_of(rows_as_tasks(batch), self.device)
        _, sums = self._module(**inputs, tasks=len(batch.input_ids))
        return sums[NLL]

    def eval(self) -> None:
        """It never leaves evaluation mode."""
