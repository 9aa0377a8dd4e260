"""The tables at the end of a run: every task through the phases, and what leaks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from trainer.evaluation.results import ORDINARY, Evaluation, TaskResult


def print_summary(console: Console, evaluations: Mapping[str, Evaluation]) -> None:
    """Print scores and crosstalk where they were judged, and evaluation loss, per task and phase.

    Args:
        evaluations: column name (``initial`` or a phase) -> results, in training order.
    """
    if not evaluations:
        return
    last = list(evaluations.values())[-1]
    if any(result.score is not None for result in last.tasks.values()):
        console.print(_scores(evaluations))
    if last.crosstalk:
        console.print(_leaks(evaluations))
    console.print(_losses(evaluations))


def _scores(evaluations: Mapping[str, Evaluation]) -> Table:
    table = _table("score, % (95 % interval after the last phase)", evaluations)
    table.add_column("interval", justify="right")
    table.add_column("by")
    last = list(evaluations.values())[-1]
    judged = [task for task, result in last.tasks.items() if result.score is not None]
    for task in special_first(last, judged):
        cells = [_percent(_score(one, task)) for one in evaluations.values()]
        figure = last.tasks[task].score
        assert figure is not None
        interval = f"{figure.low:.0%}-{figure.high:.0%}"
        table.add_row(label(task, last.tasks[task]), *cells, interval, last.tasks[task].metric)
    special = [task for task in judged if not last.tasks[task].general]
    if special:
        table.add_section()
        folds: tuple[tuple[str, Callable[[Sequence[float]], float]], ...] = (
            ("mean of tasks", lambda scores: sum(scores) / len(scores)),
            ("worst task", min),
            ("best task", max),
            ("spread", lambda scores: max(scores) - min(scores)),
        )
        for name, fold in folds:
            cells = []
            for one in evaluations.values():
                scores = [x for task in special if (x := _score(one, task)) is not None]
                cells.append(_percent(fold(scores) if scores else None))
            table.add_row(name, *cells, "", "")
    return table


def _leaks(evaluations: Mapping[str, Evaluation]) -> Table:
    table = _table("crosstalk: answers that behave like another task, %", evaluations)
    table.add_column("interval", justify="right")
    last = list(evaluations.values())[-1]
    for name, found in last.crosstalk.items():
        cells = [
            _percent(one.crosstalk[name].rate.value if name in one.crosstalk else None)
            for one in evaluations.values()
        ]
        title = f"{name} requests" if name == ORDINARY else name
        table.add_row(title, *cells, f"{found.rate.low:.1%}-{found.rate.high:.1%}")
    return table


def _losses(evaluations: Mapping[str, Evaluation]) -> Table:
    table = _table("evaluation loss, nats per answer token", evaluations)
    last = list(evaluations.values())[-1]
    for task in special_first(last, list(last.tasks)):
        cells = [
            f"{one.tasks[task].loss:.3f}" if task in one.tasks else "-"
            for one in evaluations.values()
        ]
        table.add_row(label(task, last.tasks[task]), *cells)
    return table


def _table(title: str, evaluations: Mapping[str, Evaluation]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("task")
    for name in evaluations:
        table.add_column(name, justify="right")
    return table


def special_first(evaluation: Evaluation, tasks: Sequence[str]) -> list[str]:
    """Specialised tasks by name, then general ones."""
    return sorted(tasks, key=lambda task: (evaluation.tasks[task].general, task))


def label(task: str, result: TaskResult) -> str:
    """A task's name, marked if it is a general task that the name does not say is one."""
    return f"{task} (general)" if result.general and task != "general" else task


def _score(evaluation: Evaluation, task: str) -> float | None:
    result = evaluation.tasks.get(task)
    return None if result is None or result.score is None else result.score.value


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
