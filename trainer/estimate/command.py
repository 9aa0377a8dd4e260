"""The estimates that ``launch/plan.py`` prints."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from trainer.config.schema import Config, Precision
from trainer.config.validate import validate_sizes
from trainer.distributed import Ranks
from trainer.estimate.estimate import Traced, Untraceable, Workload, estimate
from trainer.estimate.hardware import cluster_of, sizes_of
from trainer.estimate.propose import propose
from trainer.estimate.view import print_estimate, print_proposal


def print_estimates(
    console: Console, config: Config, init_from: str | None, launched: Ranks, plan: Any = None
) -> None:
    """Estimate and print.

    Args:
        launched: ranks to estimate for where neither ``estimate`` nor ``cluster`` says how many.
        plan: of ``plan_json``; its longest phase says how much there is in a step. None takes every
            sample to be as long as it may be.

    Raises:
        ConfigFault: faults of what the estimate depends on.
    """
    nodes, per_node = sizes_of(config, launched)
    validate_sizes(config, nodes * per_node)
    cluster = cluster_of(config, nodes, per_node)
    fused = cluster is not None and config.precision is Precision.bf16 and config.data.packing
    model = Traced(config, init_from, fused)
    workload = Workload.full(config) if plan is None else workload_of(config, plan)
    try:
        found = estimate(config, model, workload, nodes * per_node, cluster)
    except Untraceable as fault:
        if plan is None:
            raise
        console.print(f"estimate: none. {fault.faults[0].seen}", soft_wrap=True)
        return
    print_estimate(console, found, config)
    if cluster is not None and config.estimate.propose:
        print_proposal(console, propose(config, model, workload, cluster), found)


def workload_of(config: Config, plan: Any) -> Workload:
    """The mean step of the phase with most tokens a step."""

    def tokens(entry: Any) -> float:
        return float(sum(use["tokens"] for use in entry["tasks"].values()))

    def rows(entry: Any) -> int:
        return sum(use["rows"] + use["negatives"] for use in entry["tasks"].values())

    def steps(entry: Any) -> int:
        return -(-rows(entry) // config.global_batch_size)

    phases = [one for one in plan["phases"].values() if rows(one)]
    if not phases:
        return Workload.full(config)
    largest = max(phases, key=lambda one: tokens(one) / steps(one))
    return Workload(
        config.global_batch_size,
        tokens(largest) / steps(largest),
        tokens(largest) / rows(largest),
        planned=True,
    )
