"""A step replayed: the traced pass of the model inside what DeepSpeed holds around it.

For every ZeRO stage the bytes are followed as DeepSpeed 0.19.8 allocates and frees them, gradient by
gradient in the order in which they arrive: buckets, copies for a reduction, accumulators, and the optimizer
step's temporaries. Nothing is fitted to measurements; docs/scaling.md compares.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from trainer.estimate.gathering import gathered
from trainer.estimate.ledger import Arrived, Ledger
from trainer.estimate.partitioned import Partitioned
from trainer.estimate.setup import Setup
from trainer.estimate.shape import Shape
from trainer.estimate.sharded import Sharded
from trainer.estimate.trace import Pass
from trainer.estimate.whole import Bf16Stage1, Whole

_LOADING, _STARTING, _PASS, _STEP = "loading", "engine start", "forward and backward", "update"
_SAVING = "checkpoint"
#: Master weight and two moments, as a checkpoint has them.
_SAVED = 12


@dataclass(frozen=True)
class Replayed:
    """The ledgers of the ranks that may hold most."""

    ledgers: tuple[Ledger, ...]

    @property
    def worst_device(self) -> Ledger:
        return max(self.ledgers, key=lambda one: one.device_peak.total)

    @property
    def worst(self) -> Ledger:
        return max(self.ledgers, key=lambda one: one.peak.total)


def replay(shape: Shape, setup: Setup, traced: Pass) -> Replayed:
    """Two optimizer steps: the first makes the moments, the second holds most.

    Ranks of the stages 1 and 2 own different weights; the first and the last are looked at.
    """
    ranks = {0, setup.ranks - 1} if setup.stage in (1, 2) else {0}
    return Replayed(tuple(_of_rank(shape, setup, traced, rank) for rank in sorted(ranks)))


def _of_rank(shape: Shape, setup: Setup, traced: Pass, rank: int) -> Ledger:
    ledger = Ledger()
    strategy: Whole | Bf16Stage1 | Partitioned | Sharded
    if setup.stage == 0:
        strategy = Whole(shape, setup, ledger)
    elif setup.stage == 1 and setup.bytes_per_weight == 2 and not setup.offload_optimizer:
        strategy = Bf16Stage1(shape, setup, ledger)
    elif setup.stage < 3:
        strategy = Partitioned(shape, setup, ledger, rank)
    else:
        strategy = Sharded(shape, setup, ledger)
    ledger.when = _LOADING
    # Every rank loads the model in fp32; DeepSpeed then casts one weight after another.
    ledger.host["weights"] = 4 * shape.parameters
    if setup.bytes_per_weight < 4:
        ledger.host["weights"] += setup.bytes_per_weight * max(shape.numels)
    ledger.note()
    ledger.host.clear()
    ledger.when = _STARTING
    strategy.start()
    whole = _gathered_bytes(shape, setup, traced)
    for micro in (0, 1)[: setup.micro_steps]:
        ledger.when = _PASS
        _run_pass(strategy, ledger, traced, whole, micro)
    ledger.when = _STEP
    strategy.update()
    # the second step holds the moments of the first
    for micro in (0, 1)[: setup.micro_steps]:
        ledger.when = _PASS
        _run_pass(strategy, ledger, traced, whole, micro)
    ledger.when = _STEP
    strategy.update()
    if setup.keeps_checkpoints:
        ledger.when = _SAVING
        ledger.host["checkpoint copy"] = _SAVED * -(-shape.trained // setup.ranks)
        ledger.note()
    return ledger


def _run_pass(
    strategy: Whole | Bf16Stage1 | Partitioned | Sharded,
    ledger: Ledger,
    traced: Pass,
    whole: list[int],
    micro: int,
) -> None:
    backward = next((at for at, one in enumerate(traced.visits) if not one.forward), 0)
    _note(ledger, traced.forward_peak, whole[:backward])
    done = backward - 1
    for number, arrival in enumerate(traced.arrivals):
        first = max(0, done)
        while done + 1 < len(traced.visits) and traced.visits[done + 1].arrivals <= number:
            done += 1
        _note(ledger, arrival.peak, whole[first : done + 1])
        around = max(whole[done : done + 1], default=0)
        strategy.gradient(Arrived(arrival.weight, arrival.live, around, micro))
    _note(ledger, traced.tail, whole[done : done + 1])
    strategy.end_pass(traced.tail)


def _note(ledger: Ledger, activations: int, whole: Iterable[int]) -> None:
    ledger.note(activations=activations, gathered=max(whole, default=0))


def _gathered_bytes(shape: Shape, setup: Setup, traced: Pass) -> list[int]:
    """Bytes of whole weights during each visit; none but under stage 3 with several ranks."""
    if setup.stage < 3 or setup.ranks == 1:
        return [0] * len(traced.visits)
    return [setup.bytes_per_weight * one for one in gathered(traced.visits, shape.numels, setup)]
