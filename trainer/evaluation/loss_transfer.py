"""What a phase's training on some tasks did to the loss of every task: transfer, or its opposite.

``Z = 1 - l_after / l_before`` per phase and task: the share of the loss that the phase took away, negative
where it added to it. This is the measure of task affinity groupings (Fifty et al., arXiv 2109.04617) over a
whole phase instead of one step: coarse, but free, as the evaluations are there. With one task a phase
it is a task x task table; with several, the tasks of a phase share the credit.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from trainer.evaluation.forgetting import phase_effects
from trainer.evaluation.results import Evaluation


@dataclass(frozen=True)
class PhaseTransfer:
    """One phase's row of the table.

    Attributes:
        trained_on: tasks that the phase trains on and that are evaluated.
        transfer: task -> Z.
        loss_change: task -> loss after less loss before, in nats per answer token.
        to_others: mean Z over the tasks that it does not train on; None where it trains on all.
    """

    phase: str
    trained_on: list[str]
    transfer: dict[str, float]
    loss_change: dict[str, float]
    to_others: float | None


def loss_transfer(
    evaluations: Mapping[str, Evaluation], trained: Mapping[str, Collection[str]]
) -> list[PhaseTransfer]:
    """One row for every column but the first; arguments as of ``forgetting.forgetting``."""
    effects = phase_effects(evaluations, trained)
    table = []
    for phase in dict.fromkeys(one.phase for one in effects):
        mine = [one for one in effects if one.phase == phase]
        transfer = {
            # a loss of 0 has nothing to take away
            one.task: 1 - one.loss_after / one.loss_before if one.loss_before else 0.0
            for one in mine
        }
        others = [transfer[one.task] for one in mine if not one.trained]
        table.append(
            PhaseTransfer(
                phase,
                [one.task for one in mine if one.trained],
                transfer,
                {one.task: one.loss_change for one in mine},
                sum(others) / len(others) if others else None,
            )
        )
    return table
