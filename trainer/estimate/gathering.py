"""Which whole weights ZeRO-3 has gathered when, by the rules of DeepSpeed's parameter coordinator.

``deepspeed/runtime/zero/partitioned_param_coordinator.py`` (0.19.8): a module's weights are gathered when
it runs; some of what comes next is gathered ahead; and weights stay that are used again soon, counted in
elements. The trace that it follows is complete from the third step on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.estimate.setup import Setup
from trainer.estimate.trace import Visit


@dataclass
class _Ahead:
    """Weights that were gathered together into one buffer.

    Several are copied out of it when the first is used; a single one stays in it.
    """

    elements: int
    waiting: set[int]
    copied: bool


class _Coordinator:
    """Attributes: ``moved``: elements gathered so far."""

    def __init__(self, visits: Sequence[Visit], numels: Sequence[int], setup: Setup) -> None:
        self._visits, self._numels, self._setup = visits, numels, setup
        self._queue = [(at, weight) for at, one in enumerate(visits) for weight in one.weights]
        self._next = 0
        self._fetched_for: dict[int, int] = {}
        self._available = {w for w, numel in enumerate(numels) if self._persists(numel)}
        self._groups: list[_Ahead] = []
        self._live = 0  # as DeepSpeed counts them against its bound
        self.moved = 0
        self._uses: dict[int, list[int]] = {}
        for at, weight in self._queue:
            self._uses.setdefault(weight, []).append(at)
        self._before = [0]
        for one in visits:
            self._before.append(self._before[-1] + sum(numels[w] for w in one.weights))

    def _persists(self, numel: int) -> bool:
        return numel <= self._setup.persistence

    def visit(self, at: int) -> int:
        """Elements gathered while a module runs, small ones that are never released left out."""
        mine = self._visits[at].weights
        flying = {weight for group in self._groups for weight in group.waiting}
        self._groups = [one for one in self._groups if one.copied or not one.waiting & set(mine)]
        needed = [w for w in mine if w not in self._available and w not in flying]
        self._live += sum(self._numels[w] for w in needed)
        self.moved += sum(self._numels[w] for w in needed)
        self._available.update(mine)
        most = self._elements() + (sum(self._numels[w] for w in needed) if len(needed) > 1 else 0)
        for group in self._groups:
            if group.waiting & set(mine):
                self._available |= group.waiting
                group.waiting -= set(mine)
        most = max(most, self._elements())
        self._groups = [group for group in self._groups if group.waiting]
        self._prefetch(at, mine)
        most = max(most, self._elements())
        self._release(at, mine)
        return most

    def _elements(self) -> int:
        whole = sum(self._numels[w] for w in self._available if not self._persists(self._numels[w]))
        return whole + sum(group.elements for group in self._groups)

    def _prefetch(self, at: int, mine: tuple[int, ...]) -> None:
        for _ in range(sum(self._fetched_for.get(w, -1) < at for w in mine)):
            step, weight = self._queue[self._next]
            self._next += 1
            self._fetched_for[weight] = step
        most = min(self._setup.max_live - self._live, self._setup.prefetch_bucket)
        flying = {weight for group in self._groups for weight in group.waiting}
        ahead: set[int] = set()
        elements = 0
        while self._next < len(self._queue) and elements < most:
            step, weight = self._queue[self._next]
            self._next += 1
            self._fetched_for[weight] = max(self._fetched_for.get(weight, -1), step)
            if weight not in self._available and weight not in flying and weight not in ahead:
                ahead.add(weight)
                elements += self._numels[weight]
        if ahead:
            self._live += elements
            self.moved += elements
            self._groups.append(_Ahead(elements, ahead, copied=len(ahead) > 1))

    def _release(self, at: int, mine: tuple[int, ...]) -> None:
        for weight in mine:
            numel = self._numels[weight]
            again = next((use for use in self._uses[weight] if use > at), None)
            near = again is not None and (
                self._before[again] - self._before[at + 1] < self._setup.max_reuse
            )
            if not (self._persists(numel) or near or self._fetched_for.get(weight, -1) > at + 1):
                self._available.discard(weight)
                self._live -= numel


def gathered(visits: Sequence[Visit], numels: Sequence[int], setup: Setup) -> list[int]:
    """Elements of whole weights that are there while each module runs.

    Those that DeepSpeed never releases (``stage3_param_persistence_threshold``) are left out.
    """
    coordinator = _Coordinator(visits, numels, setup)
    return [coordinator.visit(at) for at in range(len(visits))]


def gathered_in_pass(visits: Sequence[Visit], numels: Sequence[int], setup: Setup) -> int:
    """Elements that are gathered in a forward and backward; twice where a weight is gathered twice."""
    coordinator = _Coordinator(visits, numels, setup)
    for at in range(len(visits)):
        coordinator.visit(at)
    return coordinator.moved
