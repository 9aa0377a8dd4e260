"""What a step's loss may be, and the veto on the device against steps that break it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch


@dataclass(frozen=True)
class Limit:
    """The most that some tasks of a step may lose together.

    Attributes:
        task_ids: the tasks that are watched, ascending.
        tokens: their answer tokens in the step.
        expected: the nll sum of these tokens if their tasks lose what they lately did, in nats.
        most: the nll sum at which the step is still fine.
        enforced: a step that breaks it is vetoed; else it is only found out afterwards.
    """

    task_ids: tuple[int, ...] = ()
    tokens: int = 0
    expected: float = 0.0
    most: float = math.inf
    enforced: bool = True

    def watched(self, nll: list[float]) -> float:
        """What the watched tasks lost, of the nll sums of all tasks."""
        return sum(nll[task] for task in self.task_ids)


NO_LIMIT = Limit()


class Veto:
    """Keeps a bad step from updating anything, without the host waiting for the device.

    A step is bad if its gradient norm or one of its sums over all ranks is not finite, or if it
    breaks the limit given for it. All of that is equal on all ranks, so they decide alike. The fused
    AdamW then leaves weights, moments and step counts as they are (``found_inf``, made for loss
    scalers). Where DeepSpeed finds the norm non-finite first, it does not call AdamW at all.

    Args:
        optimizer: AdamW itself, inside of whatever DeepSpeed wraps it in.
        grad_norm: the norm of this step's whole gradient, known when AdamW is called; ZeRO-3 calls it
            once for every group of parameters.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, grad_norm: Callable[[], Any]) -> None:
        self._grad_norm = grad_norm
        self._masks: dict[tuple[int, ...], torch.Tensor] = {}
        self._sums = torch.zeros(1)
        self._work: Any = None
        self._limit = NO_LIMIT
        self._bad: torch.Tensor | None = None
        optimizer.register_step_pre_hook(self._before_update)

    def watch(self, sums: torch.Tensor, work: Any, limit: Limit) -> None:
        """Begin a step.

        Args:
            sums: float64, over all ranks once ``work`` is done; the nll sum of each task comes first.
            work: the running all-reduce of ``sums``, if there is one.
        """
        self._sums, self._work, self._limit, self._bad = sums, work, limit, None

    def _before_update(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        if self._bad is None:
            self._bad = self._is_bad(self._grad_norm())
        parameter = next(p for group in optimizer.param_groups for p in group["params"])
        # Blocks for offloaded parameters alone: AdamW's own copy to the host would not.
        optimizer.found_inf = self._bad.to(parameter.device, torch.float32)  # type: ignore[attr-defined]

    def of_step(self, grad_norm: Any) -> torch.Tensor:
        """Whether the step that is over changed nothing; bool []."""
        return self._is_bad(grad_norm) if self._bad is None else self._bad

    def _is_bad(self, grad_norm: Any) -> torch.Tensor:
        if self._work is not None:
            self._work.wait()
        sums = self._sums
        if torch.is_tensor(grad_norm):
            grad_norm = grad_norm.detach().to(sums.device)
        # a sum is finite only if all of its terms are
        bad = ~torch.isfinite(sums.sum() + grad_norm)
        if self._limit.task_ids and self._limit.enforced:
            bad |= (sums * self._mask()).sum() > self._limit.most
        return bad

    def _mask(self) -> torch.Tensor:
        """1 where a sum is the nll of a watched task."""
        watched = self._limit.task_ids
        if watched not in self._masks:
            mask = torch.zeros(len(self._sums), dtype=torch.float64)
            mask[list(watched)] = 1.0
            self._masks[watched] = mask.to(self._sums.device)
        return self._masks[watched]
