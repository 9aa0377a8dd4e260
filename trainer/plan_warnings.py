"""What a plan allows but its author probably did not mean, with figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from data_modules.mixture import Order, Strategy
from data_modules.rejects import reject_words
from data_modules.roles import resolve_roles
from trainer.config.schema import Config
from trainer.curriculum import Phase


def warnings_of(
    plan: Any, phases: list[Phase], config: Config, positions: int | None = None
) -> list[str]:
    """One line for everything that is odd about a plan as ``plan_view.plan_json`` has it.

    Args:
        positions: tokens that the model was made for, as far as is known.
    """
    # One line for what several phases leave out alike.
    left_out: dict[str, str] = {}
    for entry in plan["phases"].values():
        if entry["rejects"]:
            left_out.setdefault(reject_words(entry["rejects"]), entry["rejects_file"])
    found = [
        f"training rows left out or truncated: {words}; each is listed in {path}"
        for words, path in left_out.items()
    ]
    lost = {
        source: None
        for entry in plan["phases"].values()
        for source in entry["sources_without_rows"]
    }
    if lost:
        found.append(
            f"no row is left of {', '.join(lost)}: either the file is empty, its selection "
            "matches nothing, or every row was refused. See the rejects file, or take the source out."
        )
    if positions is not None and config.data.max_seq_len > positions:
        found.append(
            f"data.max_seq_len is {config.data.max_seq_len}, but the model's "
            f"max_position_embeddings is {positions}: it was made for no longer samples. Set "
            f"data.max_seq_len={positions}, or choose a model with a longer context."
        )
    return found + phase_warnings(plan, phases, config)


def phase_warnings(plan: Any, phases: list[Phase], config: Config) -> list[str]:
    """Those of :func:`warnings_of` that are about single phases."""
    found: list[str] = []
    for phase in phases:
        entry = plan["phases"][phase.name]
        key = f"curriculum.phases.{phase.name}"
        found += [f"{key}{line}" for line in _length(phase, entry, config)]
        found += [f"{key}{line}" for line in _tasks(phase, entry, config)]
    return found


def _length(phase: Phase, entry: Any, config: Config) -> Iterator[str]:
    if phase.warmup_steps >= phase.steps:
        yield (
            f": {phase.warmup_steps} warm-up steps, but the phase has {phase.steps}; the "
            f"learning rate peaks at {phase.config.lr * phase.steps / phase.warmup_steps:.3g} "
            f"instead of {phase.config.lr:g}. Lower schedule.warmup_steps or train longer."
        )
    beta2 = config.optimizer.beta2
    memory = 1 / (1 - beta2)
    if phase.steps < memory - 1e-6:
        yield (
            f": {phase.steps} steps, but optimizer.beta2 {beta2:g} averages squared gradients over "
            f"about {memory:.0f}: the phase is mostly trained with step sizes of the one before, or "
            "of its own first steps. Train longer, lower beta2, or set optimizer_state: reset."
        )
    asked, rows = entry["asked_epoch_rows"], entry["epoch_rows"]
    balance = phase.config.balance
    if balance.strategy is Strategy.caps and abs(rows - asked) > 0.5:
        yield (
            f".balance: an epoch has {rows:,.0f} rows instead of {asked:,.0f}: every task has its "
            "min_rows or its max_rows already. Move those, or balance.rows."
        )
    elif rows < asked - 0.5:
        yield (
            f".balance: an epoch has {rows:,.0f} rows instead of {asked:,.0f}, because unimax draws "
            f"no task's rows more than {balance.max_repeats:g} times over the phase. Raise "
            "max_repeats, or make the phase shorter."
        )


def _tasks(phase: Phase, entry: Any, config: Config) -> Iterator[str]:
    tasks = entry["tasks"]
    main = resolve_roles(config.data, phase.config).main
    if phase.config.order is Order.sequential and len(main) > 1:
        yield (
            ".order: sequential trains task after task, which makes a model forget the earlier "
            "ones: in the pilot it ended at accuracy .08 (.61 mixed), with 82-90 % of the answers "
            "behaving like another task even with tags. Replay of general rows does not protect the "
            "other tasks. order: grouped alternates short blocks instead."
        )
    often = {
        task: use for task, use in tasks.items() if use["max_repeats"] > config.data.repeats_warning
    }
    if often:
        words = ", ".join(
            f"{task} {use['max_repeats']} ({use['rows']:,} rows from {use['distinct']:,})"
            for task, use in often.items()
        )
        yield (
            f": rows are drawn more often than data.repeats_warning={config.data.repeats_warning}: "
            f"{words}. About four repeats are nearly free, sixteen gain little: use more rows or "
            "fewer epochs."
        )
    silent = [task for task in entry["asked_shares"] if not tasks.get(task, {}).get("rows")]
    if silent:
        rows = sum(use["rows"] for use in tasks.values())
        yield (
            f": {', '.join(silent)} contributes no row and no supervised token; the phase has "
            f"{rows:,} rows. Train longer, or give the task a larger share."
        )
    if phase.config.order is Order.mixed and config.global_batch_size < len(tasks):
        yield (
            f": {len(tasks)} tasks are mixed, but a step has {config.global_batch_size} rows and "
            "cannot hold one of each; gradients swing from task to task. Raise global_batch_size."
        )
