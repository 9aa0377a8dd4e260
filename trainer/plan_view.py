"""The plan as a person sees it: what every phase will train on, before it does."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from data_modules.packing import lay_out
from data_modules.phase_data_module import PhaseDataModule
from data_modules.rejects import reject_words
from trainer.config.schema import Config, Shape
from trainer.curriculum import Phase, lr_factor

_SAMPLED_STEPS = 200  # packing efficiency is measured on at most this many steps of a phase


def plan_json(data: PhaseDataModule, phases: list[Phase], config: Config, world: int) -> Any:
    """The plan as plain values, for ``plan.json``."""
    return {
        "global_batch_size": config.global_batch_size,
        "dp_world_size": world,
        "phases": {
            phase.name: {
                "first_step": phase.first_step,
                "last_step": phase.last_step,
                "epochs": data.plans[phase.name].row_epochs,
                "warmup_steps": phase.warmup_steps,
                "lr_peak": phase.config.lr,
                "lr_end": phase.config.lr
                * lr_factor(phase.config.schedule, phase.steps - 1, phase.steps),
                "packing_efficiency": packing_efficiency(data, phase, config, world),
                "fingerprint": data.plans[phase.name].fingerprint(),
                "rejects": data.rejects(phase.name),
                "rejects_files": [str(path) for path in data.rejects_files(phase.name)],
                "tasks": {task: asdict(use) for task, use in data.plans[phase.name].use().items()},
            }
            for phase in phases
        },
    }


def packing_efficiency(
    data: PhaseDataModule, phase: Phase, config: Config, dp_world_size: int
) -> float:
    """Real tokens / positions computed or waited for, on evenly spaced steps of a phase."""
    plan = data.plans[phase.name]
    steps = np.unique(np.linspace(0, plan.steps - 1, _SAMPLED_STEPS).astype(int))
    real = spent = 0
    for step in steps:
        lengths = plan.store.lengths[plan.step_rows(int(step))]
        real += int(lengths.sum())
        for micro_step in lay_out(
            lengths,
            dp_world_size,
            config.micro_batch_size,
            config.data.max_seq_len,
            config.data.packing,
        ):
            spent += dp_world_size * max(
                _positions(lengths[rows], config.data.packing) for rows in micro_step
            )
    return real / spent


def _positions(lengths: np.ndarray, packing: bool) -> int:
    if not len(lengths):
        return 0
    return int(lengths.sum()) if packing else int(lengths.max()) * len(lengths)


def print_plan(console: Console, plan: Any, phases: list[Phase], config: Config) -> None:
    """Print per phase and task: rows, repeats, supervised tokens, shares; and the derived line."""
    for phase in phases:
        entry = plan["phases"][phase.name]
        tasks = entry["tasks"]
        rows = sum(use["rows"] for use in tasks.values())
        answers = sum(use["answer_tokens"] for use in tasks.values())
        table = Table(title=_headline(phase, entry, rows), title_justify="left")
        columns = ("available", "rows", "distinct", "max repeats", "row share", "answer tokens")
        table.add_column("task")
        for column in (*columns, "token share"):
            table.add_column(column, justify="right")
        for task, use in tasks.items():
            marker = " (general)" if config.data.tasks[task].general else ""
            table.add_row(
                task + marker,
                f"{use['available']:,}",
                f"{use['rows']:,}",
                f"{use['distinct']:,}",
                str(use["max_repeats"]),
                f"{use['rows'] / rows:.1%}",
                f"{use['answer_tokens']:,}",
                f"{use['answer_tokens'] / answers:.1%}",
            )
        console.print(table)
    console.print(derived_line(plan, phases, config))


def _headline(phase: Phase, entry: Any, rows: int) -> str:
    schedule = phase.config.schedule
    lr = f"lr {phase.config.lr:g}"
    if schedule.shape is not Shape.constant:
        lr += f" -> {entry['lr_end']:.2g} {schedule.shape.value}"
    if phase.warmup_steps:
        lr += f", warm-up {phase.warmup_steps} steps"
    return (
        f"{phase.name}: steps {phase.first_step}-{phase.last_step}, {rows:,} rows, "
        f"{phase.config.order.value}, {lr}, packing {entry['packing_efficiency']:.1%}"
    )


def derived_line(plan: Any, phases: list[Phase], config: Config) -> str:
    """Everything derived from the configuration, in one line."""
    tokens = sum(
        use["tokens"] for entry in plan["phases"].values() for use in entry["tasks"].values()
    )
    steps = sum(phase.steps for phase in phases)
    return (
        f"derived: {plan['dp_world_size']} rank(s), {steps} steps of {config.global_batch_size} "
        f"rows, micro-batch {config.micro_batch_size}"
        f"{' x ' + str(config.data.max_seq_len) + ' tokens packed' if config.data.packing else ''}"
        f", {tokens:,} tokens ({tokens // steps:,} a step), ZeRO-{config.zero.stage}, "
        f"{config.precision.value}, {config.adaptation.kind.value}"
    )


def warnings_of(plan: Any, phases: list[Phase]) -> list[str]:
    """What is allowed but probably not meant, with figures."""
    # Phases with the same boundaries share their samples: one line for each set.
    found = [
        f"training rows left out or truncated: {reject_words(rejects)}; each is listed in {path}"
        for path, rejects in {
            entry["rejects_file"]: entry["rejects"] for entry in plan["phases"].values()
        }.items()
        if rejects
    ]
    for phase in phases:
        key = f"curriculum.phases.{phase.name}"
        if phase.warmup_steps >= phase.steps:
            found.append(
                f"{key}: {phase.warmup_steps} warm-up steps, but the phase has {phase.steps}; the "
                f"learning rate peaks at {phase.config.lr * phase.steps / phase.warmup_steps:.3g} "
                f"instead of {phase.config.lr:g}. Lower schedule.warmup_steps or train longer."
            )
        if phase.config.order.value == "sequential" and len(phase.config.tasks) != 1:
            rest = "replay of general rows does not protect the other tasks"
            found.append(
                f"{key}.order: sequential trains task after task, which makes a model forget the "
                f"earlier ones; {rest}. order: grouped alternates short blocks instead."
            )
    return found
