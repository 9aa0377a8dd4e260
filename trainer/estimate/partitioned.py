"""Stages 1 and 2: optimizer states partitioned over the flattened weights, gradients in stage 2 as well."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.estimate.ledger import Arrived, Ledger
from trainer.estimate.setup import Setup
from trainer.estimate.shape import Shape
from trainer.estimate.whole import groups_of, padded


@dataclass(frozen=True)
class _Place:
    """A weight among the parts that ranks own.

    Attributes:
        owned: elements of it that this rank owns.
        first, last: ranks that own some of it, one behind the other.
    """

    owned: int
    first: int
    last: int


class Partitioned:
    """``DeepSpeedZeroOptimizer``: stage 2, and stage 1 in fp32 or with its optimizer offloaded."""

    def __init__(self, shape: Shape, setup: Setup, ledger: Ledger, rank: int) -> None:
        self._shape, self._setup, self._ledger, self._rank = shape, setup, ledger, rank
        self._numels, self._size = shape.numels, setup.bytes_per_weight
        self._groups = groups_of(shape)
        self._places: dict[int, _Place] = {}
        self._flat, self._shares = [], []
        for group in self._groups:
            whole = padded(sum(self._numels[at] for at in group), setup.ranks)
            share = whole // setup.ranks
            self._flat.append(whole)
            self._shares.append(share)
            offset = 0
            for at in group:
                self._places[at] = _place(offset, self._numels[at], share, rank)
                offset += self._numels[at]
        self._share = sum(self._shares)
        self._owned = [at for at, place in self._places.items() if place.owned]
        self._largest_owned = max((self._places[at].owned for at in self._owned), default=0)
        # Accumulators of their own: bf16 gradients, fp32 sums.
        self._widens = self._size < 4
        self._bucket: list[int] = []
        self._elements = 0
        self._kept = 0  # bytes of large gradients that stay to the end of the backward
        self._pieces = 0  # bytes of this backward's own gradients in fp32
        self._accumulated = 0  # bytes of the step's gradients, of all its backwards
        self._in_step = False

    def start(self) -> None:
        """Build the engine."""
        setup, ledger, size = self._setup, self._ledger, self._size
        ledger.device["weights"] = size * self._shape.parameters
        ledger.note(flattening=size * max(self._flat))
        states = ledger.host if setup.offload_optimizer else ledger.device
        states["masters"] = 4 * self._share
        ledger.note(temporary=size * max(self._shares))
        if setup.offload_optimizer:
            largest = size * max(self._numels[at] for at in self._places)
            states["gradients"] = 4 * self._share
            states["buffers"] = size * self._share + largest
            ledger.device["buffers"] = largest
            ledger.note()
        else:
            ledger.note(temporary=4 * self._share)

    def gradient(self, arrived: Arrived) -> None:
        """A gradient has arrived."""
        self._open_buckets()
        if self._setup.stage == 2:
            self._add(arrived.weight, arrived.live)
            return
        wide = 4 * self._numels[arrived.weight]
        if arrived.micro == 0:
            self._hold(wide)
        if self._widens:
            passing = self._size * self._numels[arrived.weight] + (wide if arrived.micro else 0)
            self._ledger.note(activations=arrived.live, temporary=passing)

    def _open_buckets(self) -> None:
        if "buckets" not in self._ledger.device:
            size = 4 if self._setup.stage == 1 else self._size
            count = 2 if self._setup.overlap else 1
            self._ledger.device["buckets"] = count * size * self._setup.reduce_bucket

    def _hold(self, size: int) -> None:
        self._ledger.device["gradients"] += size

    def _wire(self) -> int:
        """Bytes of one element of a gradient in a bucket."""
        return 4 if self._setup.stage == 1 else self._size

    def _add(self, weight: int, live: int) -> None:
        """Put a gradient into the bucket, or let it stand beside where it is larger than that."""
        numel = self._numels[weight]
        size = self._wire() * numel
        if self._elements and self._elements + numel > self._setup.reduce_bucket:
            arrived = 0 if self._setup.stage == 1 else size
            self._reduce(live + arrived)
        if numel > self._setup.reduce_bucket:
            if self._setup.stage == 2:
                self._hold(size)
            if self._setup.offload_optimizer:
                self._ledger.note(activations=live, temporary=size)  # cloned
        elif self._setup.stage == 1:
            self._hold(-size)
        self._bucket.append(weight)
        self._elements += numel

    def _reduce(self, live: int) -> None:
        wire = self._wire()
        places = [self._places[at] for at in self._bucket]
        owned = [place.owned for place in places if place.owned]
        if owned and self._widens:
            self._open_accumulators()
        temporary = wire * self._elements if self._slices(places) > 1 else 0
        if wire > self._size:
            temporary += self._size * self._elements  # reduced in the weights' type
        if self._widens:
            temporary += 4 * max(owned, default=0)
        self._ledger.note(activations=live, temporary=temporary)
        for at in self._bucket:
            self._settle(at)
        self._ledger.note(activations=live)
        self._bucket, self._elements = [], 0

    def _slices(self, places: list[_Place]) -> int:
        """Pieces that a bucket is reduced in: neighbours of one owner are one, but for this rank's own
        where they go to accumulators one by one. Several are copied into one buffer."""
        slices, before = 0, -1
        for place in places:
            for owner in range(place.first, place.last + 1):
                if owner != before or (owner == self._rank and self._widens):
                    slices += 1
                before = owner
        return slices

    def _settle(self, weight: int) -> None:
        """What becomes of one gradient behind its reduction."""
        numel, owned = self._numels[weight], self._places[weight].owned
        large = numel > self._setup.reduce_bucket
        size = self._wire() * numel if large else 0
        if owned and not self._widens:
            if self._setup.offload_optimizer:
                self._ledger.host["gradients"] += 0 if self._accumulated else 4 * numel
                self._kept += size
            else:
                if not self._pieces:
                    self._pieces = 4 * sum(self._numels[at] for at in self._owned)
                    self._hold(self._pieces)
                self._hold(-size)
        elif self._setup.stage == 1:
            # an own one is freed; others stay until the update
            if owned:
                self._hold(-size)
            else:
                self._kept += size
        elif owned:
            self._kept += size
        else:
            self._hold(-size)

    def _open_accumulators(self) -> None:
        if not self._accumulated:
            self._accumulated = 4 * self._share
            self._hold(self._accumulated)

    def _close_buckets(self, live: int) -> None:
        if self._bucket:
            self._reduce(live)
        if self._widens:
            self._open_accumulators()
        self._ledger.note(activations=live)
        self._hold(-self._kept)
        self._kept = 0
        if not self._widens and not self._setup.offload_optimizer:
            if self._accumulated:
                self._hold(-self._pieces)  # added to the earlier ones
            self._accumulated = self._accumulated or self._pieces
            self._pieces = 0
        elif not self._widens:
            self._accumulated = 1
        self._ledger.device.pop("buckets", None)

    def end_pass(self, live: int) -> None:
        """The backward is over."""
        if self._setup.stage == 2:
            self._close_buckets(live)

    def update(self) -> None:
        """Reduce in stage 1, then norm, update, and the new weights to all."""
        setup, ledger = self._setup, self._ledger
        if setup.stage == 1:
            for group in self._groups:
                for at in group:
                    self._add(at, 0)
            self._close_buckets(0)
        ledger.note(temporary=8 * self._largest_owned)  # norms are of fp64 copies
        if setup.offload_optimizer:
            ledger.host["moments"] = 8 * self._share
            ledger.note()
        else:
            # The first group's gradients are flat already where they were accumulated by themselves.
            ledger.note(temporary=0 if self._widens else 4 * max(self._shares))
            ledger.device["moments"] = 8 * self._share
            ledger.note()
        ledger.device["gradients"] = 0
        self._accumulated = 0


def _place(offset: int, numel: int, share: int, rank: int) -> _Place:
    low, high = rank * share, (rank + 1) * share
    owned = max(0, min(offset + numel, high) - max(offset, low))
    return _Place(owned, offset // share, (offset + numel - 1) // share)
