"""The plan as a person sees it: what every phase will train on, before it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from data_modules.balance import AXES
from data_modules.config import DataConfig
from data_modules.packing import lay_out
from data_modules.phase_data_module import PhaseDataModule
from data_modules.phase_plan import PhasePlan, TaskUse
from trainer.config.schema import Config, Shape
from trainer.course import Course
from trainer.curriculum import Phase, lr_factor

if TYPE_CHECKING:
    from data_modules.phase_data_module import PhaseDataModule

_SAMPLED_STEPS = 200  # packing efficiency is measured on at most this many steps of a phase


def plan_json(
    data: PhaseDataModule,
    phases: list[Phase],
    config: Config,
    world: int,
    course: Course | None = None,
) -> Any:
    """The plan as plain values, for ``plan.json``.

    Args:
        phases: those that are placed.
        course: says which tasks were picked, and which phases are placed later.
    """
    plan: dict[str, Any] = {
        "global_batch_size": config.global_batch_size,
        "dp_world_size": world,
        "sequence_parallel_size": config.sequence_parallel_size,
        "phases": {phase.name: _phase_json(data, phase, config, world) for phase in phases},
    }
    if course is not None and course.later:
        plan["later"] = {
            name: _later_json(data, name, course, config, world) for name in course.later
        }
    if course is not None:
        for name, choice in course.choices.items():
            (plan["phases"] | plan.get("later", {}))[name]["auto_hard"] = choice.as_json()
    return plan


def _later_json(
    data: PhaseDataModule, name: str, course: Course, config: Config, world: int
) -> dict[str, Any]:
    """What is known of a phase whose steps are not numbered yet."""
    if name in course.waiting:
        bounds = data.step_bounds(name)
        return {"steps": list(bounds), "waiting": course.waiting_words(name, bounds)}
    steps = data.plans[name].steps
    entry = _phase_json(data, _unplaced(name, steps, course), config, world)
    del entry["first_step"], entry["last_step"]
    return {"steps": [steps, steps], **entry}


def _unplaced(name: str, steps: int, course: Course) -> Phase:
    """A phase as if it were the only one."""
    return Phase(name, 1, steps, course.phases[name])


def _phase_json(data: PhaseDataModule, phase: Phase, config: Config, world: int) -> dict[str, Any]:
    plan = data.plans[phase.name]
    schedule = phase.config.schedule
    return {
        "first_step": phase.first_step,
        "last_step": phase.last_step,
        "epochs": plan.row_epochs,
        "epoch_rows": plan.epoch_rows,
        "asked_epoch_rows": plan.asked_epoch_rows,
        "warmup_steps": phase.warmup_steps,
        "lr_peak": phase.config.lr,
        "lr_end": phase.config.lr * lr_factor(schedule, phase.steps - 1, phase.steps),
        "packing_efficiency": packing_efficiency(data, phase, config, world),
        "fingerprint": plan.fingerprint(),
        "wording": data.token_stats(phase.name).wording.as_json(),
        "rejects": data.rejects(phase.name),
        "rejects_file": str(data.rejects_file(phase.name)),
        "sources_without_rows": sources_without_rows(plan, config.data),
        "asked_shares": dict(plan.asked),
        "factors": {task: dict(axes) for task, axes in plan.factors.items()},
        "tasks": task_shares(plan.use()),
    }


def task_shares(uses: Mapping[str, TaskUse]) -> dict[str, dict[str, Any]]:
    """What is used of every task, with its share of the rows and of the supervised tokens.

    Both are shares of the right answers: negatives are counted apart.
    """
    rows = sum(use.rows for use in uses.values())
    answers = sum(use.answer_tokens for use in uses.values())
    return {
        task: asdict(use)
        | {"row_share": use.rows / rows, "answer_token_share": use.answer_tokens / answers}
        for task, use in uses.items()
    }


def sources_without_rows(plan: PhasePlan, data: DataConfig) -> list[str]:
    """``task/source`` of every training source of the phase's tasks that no sample is left of."""
    return [
        f"{task}/{name}"
        for task in sorted(plan.asked)
        for name, source in data.tasks[task].sources.items()
        if source.train and source.weight and f"{task}/{name}" not in plan.store.sources
    ]


def packing_efficiency(
    data: PhaseDataModule, phase: Phase, config: Config, dp_world_size: int
) -> float:
    """Real tokens / positions computed or waited for, on evenly spaced steps of a phase."""
    plan = data.plans[phase.name]
    steps = np.unique(np.linspace(0, plan.steps - 1, _SAMPLED_STEPS).astype(int))
    real = spent = 0
    groups = dp_world_size // config.sequence_parallel_size
    for step in steps:
        lengths = plan.store.lengths_of(plan.step_rows(int(step)))
        real += int(lengths.sum())
        for micro_step in lay_out(
            lengths,
            groups,
            config.micro_batch_size,
            config.data.max_seq_len,
            config.data.packing,
        ):
            spent += groups * max(
                _positions(lengths[rows], config.data.packing) for rows in micro_step
            )
    return real / spent


def _positions(lengths: np.ndarray, packing: bool) -> int:
    if not len(lengths):
        return 0
    return int(lengths.sum()) if packing else int(lengths.max()) * len(lengths)


def print_plan(
    console: Console,
    plan: Any,
    phases: list[Phase],
    config: Config,
    course: Course | None = None,
) -> None:
    """Print what every phase draws of every task, asked and real; and the derived line."""
    for phase in phases:
        _print_phase(console, phase, plan["phases"][phase.name], config)
    for name, entry in plan.get("later", {}).items():
        if "waiting" in entry:
            console.print(f"{name}: {entry['waiting']}", soft_wrap=True)
        else:
            assert course is not None, "only a course has later phases"
            _print_phase(console, _unplaced(name, entry["steps"][0], course), entry, config)
    console.print(derived_line(plan, phases, config))


def _print_phase(console: Console, phase: Phase, entry: Any, config: Config) -> None:
    console.print(_phase_table(phase, entry, config))
    for task, use in entry["tasks"].items():
        if words := source_words(use):
            console.print(f"{phase.name}: {task} {words}", soft_wrap=True)
    if words := wording_words(entry["wording"]):
        console.print(f"{phase.name}: {words}", soft_wrap=True)
    if "auto_hard" in entry:
        console.print(f"{phase.name}: tasks {entry['auto_hard']['words']}", soft_wrap=True)


def source_words(use: Mapping[str, Any]) -> str:
    """Rows and negatives of a task by source; nothing to say where its sources are drawn alike."""
    parts = []
    for words, key in (("by source", "sources"), ("negatives by source", "negative_sources")):
        if use[key]:
            counts = (f"{name} {count:,}" for name, count in use[key].items())
            parts.append(f"{words}: {', '.join(counts)}")
    return "; ".join(parts)


def wording_words(wording: Mapping[str, Mapping[str, Any]]) -> str:
    """How the rows that a phase can draw are worded; nothing to say where only tags are added."""

    def total(kind: str) -> int:
        return sum(one[kind] for one in wording.values())

    cued = sum(sum(one["cues"].values()) for one in wording.values())
    if not cued and not total("paraphrased"):
        return ""
    return (
        f"of {total('rows'):,} rows {total('tagged'):,} carry tag or constraint, {cued:,} another "
        f"task's cue, {total('paraphrased'):,} a rephrased instruction"
    )


def _phase_table(phase: Phase, entry: Any, config: Config) -> Table:
    tasks, factors = entry["tasks"], entry["factors"]
    rows = sum(use["rows"] + use["negatives"] for use in tasks.values())
    negatives = any(use["negatives"] for use in tasks.values())
    table = Table(title=_headline(phase, entry, rows), title_justify="left")
    table.add_column("task")
    columns = ["available", "rows", "distinct", "max repeats", "asked share", "row share"]
    columns += ["answer tokens", "token share", *(["negatives"] * negatives)]
    for column in (*columns, *(AXES if factors else ())):
        table.add_column(column, justify="right")
    for task, use in tasks.items():
        marker = " (general)" if config.data.tasks[task].general else ""
        table.add_row(
            task + marker,
            f"{use['available']:,}",
            f"{use['rows']:,}",
            f"{use['distinct']:,}",
            str(use["max_repeats"]),
            f"{use['asked_share']:.1%}",
            f"{use['row_share']:.1%}",
            f"{use['answer_tokens']:,}",
            f"{use['answer_token_share']:.1%}",
            *([f"{use['negatives']:,}"] * negatives),
            *(
                f"x {factors[task][axis]:.2f}" if task in factors else ""
                for axis in AXES
                if factors
            ),
        )
    return table


def _headline(phase: Phase, entry: Any, rows: int) -> str:
    schedule = phase.config.schedule
    lr = f"lr {phase.config.lr:g}"
    if schedule.shape is not Shape.constant:
        lr += f" -> {entry['lr_end']:.2g} {schedule.shape.value}"
    if phase.warmup_steps:
        lr += f", warm-up {phase.warmup_steps} steps"
    steps = f"steps {phase.first_step}-{phase.last_step}"
    if "first_step" not in entry:
        steps = f"{phase.steps} steps behind the phase before"
    return (
        f"{phase.name}: {steps}, {rows:,} rows, {phase.config.order.value}, {lr}, "
        f"packing {entry['packing_efficiency']:.1%}"
    )


def derived_line(plan: Any, phases: list[Phase], config: Config) -> str:
    """Everything derived from the configuration, in one line."""
    tokens = sum(
        use["tokens"] for entry in plan["phases"].values() for use in entry["tasks"].values()
    )
    steps = sum(phase.steps for phase in phases)
    later = [entry["steps"] for entry in plan.get("later", {}).values()]
    low, high = (sum(bounds) for bounds in zip(*later, strict=True)) if later else (0, 0)
    more = f" and {low if low == high else f'{low} to {high}'} later" if later else ""
    parts = config.sequence_parallel_size
    ranks = f"{plan['dp_world_size']} rank(s)" + (f" in groups of {parts}" if parts > 1 else "")
    return (
        f"derived: {ranks}, {steps}{more} steps of {config.global_batch_size} "
        f"rows, micro-batch {config.micro_batch_size}"
        f"{' x ' + str(config.data.max_seq_len) + ' tokens packed' if config.data.packing else ''}"
        f", {tokens:,} tokens ({tokens // steps:,} a step), ZeRO-{config.zero.stage}, "
        f"{config.precision.value}, {config.adaptation.kind.value}"
    )
