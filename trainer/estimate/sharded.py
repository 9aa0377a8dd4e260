"""Stage 3: weights, gradients and moments partitioned, weight by weight."""

from __future__ import annotations

from trainer.estimate.ledger import Arrived, Ledger
from trainer.estimate.setup import Setup
from trainer.estimate.shape import Shape


class Sharded:
    """``DeepSpeedZeroOptimizer_Stage3``."""

    def __init__(self, shape: Shape, setup: Setup, ledger: Ledger) -> None:
        self._shape, self._setup, self._ledger = shape, setup, ledger
        self._numels = shape.numels
        trained = [one for one in shape.weights if one.trained]
        self._share = sum(self._part(one.numel) for one in trained)
        self._largest_part = max(self._part(one.numel) for one in trained)
        self._bucket: list[int] = []
        self._elements = 0
        self._loose = 0  # elements of gradients that are not in the bucket's buffer

    def _part(self, numel: int) -> int:
        return -(-numel // self._setup.ranks)

    def start(self) -> None:
        """Build the engine: the whole model stands on the device first."""
        setup, ledger, size = self._setup, self._ledger, self._setup.bytes_per_weight
        ledger.device["weights"] = size * self._shape.parameters
        ledger.note()
        parts = size * sum(self._part(numel) for numel in self._numels)
        small = [numel for numel in self._numels if numel <= setup.persistence]
        whole = size * sum(small) if setup.ranks > 1 else 0
        states = ledger.host if setup.offload_optimizer else ledger.device
        ledger.device["weights"] = whole
        (ledger.host if setup.offload_parameters else ledger.device)["weights"] += parts
        if setup.copy_parts > 1:
            copies = sum(-(-numel // setup.copy_parts) for numel in self._numels)
            ledger.device["second copy of weights"] = size * copies
        states["masters"] = 4 * self._share
        if setup.offload_optimizer:
            ledger.note_host(4 * self._share)
        else:
            ledger.note(temporary=4 * self._share)
        states["gradients"] = 4 * self._share
        if setup.offload_optimizer:
            states["gradients"] += 4 * self._share  # the optimizer's own, beside the accumulators
        ledger.device["buffers"] = size * setup.reduce_bucket
        ledger.note()

    def gradient(self, arrived: Arrived) -> None:
        """A gradient has arrived."""
        numel, size = self._numels[arrived.weight], self._setup.bytes_per_weight
        if self._elements and self._elements + numel > self._setup.reduce_bucket:
            self._ledger.device["gradients"] += size * numel
            self._reduce(arrived.live, arrived.gathered)
            self._ledger.device["gradients"] -= size * numel
        if self._elements + numel > self._setup.reduce_bucket:
            self._loose += numel
            self._ledger.device["gradients"] += size * numel
        self._bucket.append(numel)
        self._elements += numel

    def _reduce(self, live: int, whole: int) -> None:
        size, ranks = self._setup.bytes_per_weight, self._setup.ranks
        one_part = len(self._bucket) == 1 and self._bucket[0] % ranks == 0
        copied = 0 if one_part else size * self._elements
        widened = 4 * sum(map(self._part, self._bucket)) if size < 4 else 0
        self._ledger.note(activations=live, gathered=whole, temporary=copied + widened)
        self._ledger.device["gradients"] -= size * self._loose
        self._bucket, self._elements, self._loose = [], 0, 0

    def end_pass(self, live: int) -> None:
        """Reduce what is left."""
        if self._bucket:
            self._reduce(live, 0)

    def update(self) -> None:
        """Norm, update, and the new weights into their places."""
        ledger = self._ledger
        ledger.note(temporary=8 * self._largest_part)  # norms are of fp64 copies
        if self._setup.offload_optimizer:
            ledger.host["moments"] = 8 * self._share
            ledger.note()
            return
        ledger.device["moments"] = 8 * self._share
        ledger.note(temporary=4 * self._share)  # the accumulators, flat
