"""Gradients that every rank holds whole until the step: stage 0, and stage 1 in bf16."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainer.estimate.ledger import Arrived, Ledger
from trainer.estimate.setup import Setup
from trainer.estimate.shape import Shape

#: DeepSpeed all-reduces such gradients in buckets that end behind so many elements.
_ALLREDUCE_BUCKET = 500_000_000


def groups_of(shape: Shape) -> list[list[int]]:
    """Indices of the trained weights of the optimizer's groups: matrices, and the rest."""
    trained = [(at, one) for at, one in enumerate(shape.weights) if one.trained]
    groups = [[at for at, one in trained if one.matrix is matrix] for matrix in (True, False)]
    return [group for group in groups if group]


def padded(numel: int, ranks: int) -> int:
    """Elements of a group that is cut into equal parts, each of an even number of elements."""
    unit = 2 * ranks
    return -(-numel // unit) * unit


class Whole:
    """Stage 0 in fp32: AdamW alone, gradients averaged over all ranks before the step."""

    def __init__(self, shape: Shape, setup: Setup, ledger: Ledger) -> None:
        self._shape, self._setup, self._ledger = shape, setup, ledger

    def start(self) -> None:
        """Build the engine."""
        self._ledger.device["weights"] = 4 * self._shape.parameters
        self._ledger.note()

    def gradient(self, arrived: Arrived) -> None:
        """A gradient has arrived."""
        if arrived.micro == 0:
            self._ledger.device["gradients"] += 4 * self._shape.numels[arrived.weight]

    def end_pass(self, live: int) -> None:
        """The backward is over."""
        self._ledger.note(activations=live)

    def update(self) -> None:
        """Reduce and update."""
        ledger, trained = self._ledger, self._shape.trained
        numels = [one.numel for one in self._shape.weights if one.trained]
        ledger.note(buffers=4 * flattened(numels))
        ledger.device["moments"] = 8 * trained
        ledger.note()
        del ledger.device["gradients"]


class Bf16Stage1:
    """Stage 1 in bf16: DeepSpeed's ``BF16_Optimizer``.

    It accumulates all gradients in fp32 on every rank and keeps their bf16 originals beside them.
    """

    def __init__(self, shape: Shape, setup: Setup, ledger: Ledger) -> None:
        self._shape, self._ledger = shape, ledger
        numels = shape.numels
        self._groups = [
            padded(sum(numels[at] for at in group), setup.ranks) for group in groups_of(shape)
        ]
        self._largest = max(one.numel for one in shape.weights if one.trained)
        self._all = sum(self._groups)
        self._share = self._all // setup.ranks

    def start(self) -> None:
        """Build the engine."""
        device = self._ledger.device
        device["weights"] = 2 * self._shape.parameters
        self._ledger.note(flattening=2 * max(self._groups))
        device["masters"] = 4 * self._share
        device["gradients"] = 4 * self._all
        self._ledger.note()

    def gradient(self, arrived: Arrived) -> None:
        """A gradient has arrived."""
        if arrived.micro == 0:
            self._ledger.device["gradients"] += 2 * self._shape.numels[arrived.weight]

    def end_pass(self, live: int) -> None:
        """Add all to the accumulators."""
        self._ledger.note(activations=live, temporary=4 * self._largest)

    def update(self) -> None:
        """Reduce and update."""
        ledger = self._ledger
        # cut off behind the group that fills it; one tensor alone is not copied. Then in bf16 on the wire.
        ledger.note(buffers=4 * flattened(self._groups) + 2 * _bucket(self._groups))
        ledger.device["moments"] = 8 * self._share
        ledger.note()
        ledger.device["gradients"] = 4 * self._all


def flattened(numels: Sequence[int]) -> int:
    """Most elements that are copied into one buffer to be all-reduced."""
    return max((sum(one) for one in _buckets(numels) if len(one) > 1), default=0)


def _bucket(numels: Sequence[int]) -> int:
    return max(sum(one) for one in _buckets(numels))


def _buckets(numels: Iterable[int]) -> list[list[int]]:
    buckets: list[list[int]] = [[]]
    for numel in numels:
        buckets[-1].append(numel)
        if sum(buckets[-1]) > _ALLREDUCE_BUCKET:
            buckets.append([])
    return [one for one in buckets if one]
