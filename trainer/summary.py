"""The table at the end of a run: every task through the phases."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from trainer.evaluation.results import Evaluation, TaskResult


def print_summary(console: Console, evaluations: Mapping[str, Evaluation]) -> None:
    """Print evaluation loss, and accuracy where it was judged, per task and phase.

    Args:
        evaluations: column name (``initial`` or a phase) -> results, in training order.
    """
    if not evaluations:
        return
    last = list(evaluations.values())[-1]
    if any(result.accuracy is not None for result in last.values()):
        console.print(_accuracies(evaluations))
    console.print(_losses(evaluations))


def _accuracies(evaluations: Mapping[str, Evaluation]) -> Table:
    table = _table("exact-match accuracy, % (95 % interval after the last phase)", evaluations)
    table.add_column("interval", justify="right")
    last = list(evaluations.values())[-1]
    judged = [task for task, result in last.items() if result.accuracy is not None]
    for task in _special_first(last, judged):
        cells = [
            _percent(one[task].accuracy if task in one else None) for one in evaluations.values()
        ]
        interval = last[task].accuracy_interval
        assert interval is not None
        table.add_row(label(task, last[task]), *cells, f"{interval[0]:.0%}-{interval[1]:.0%}")
    special = [task for task in judged if not last[task].general]
    if special:
        table.add_section()
        for name, fold in (("mean of tasks", _mean), ("worst task", min), ("best task", max)):
            table.add_row(
                name,
                *(
                    _percent(fold([_accuracy(one, task) for task in special if task in one]))
                    for one in evaluations.values()
                ),
                "",
            )
    return table


def _losses(evaluations: Mapping[str, Evaluation]) -> Table:
    table = _table("evaluation loss, nats per answer token", evaluations)
    last = list(evaluations.values())[-1]
    for task in _special_first(last, list(last)):
        cells = [f"{one[task].loss:.3f}" if task in one else "-" for one in evaluations.values()]
        table.add_row(label(task, last[task]), *cells)
    return table


def _table(title: str, evaluations: Mapping[str, Evaluation]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("task")
    for name in evaluations:
        table.add_column(name, justify="right")
    return table


def _special_first(results: Evaluation, tasks: list[str]) -> list[str]:
    return sorted(tasks, key=lambda task: (results[task].general, task))


def label(task: str, result: TaskResult) -> str:
    """A task's name, marked if it is a general task that the name does not say is one."""
    return f"{task} (general)" if result.general and task != "general" else task


def _accuracy(results: Evaluation, task: str) -> float:
    accuracy = results[task].accuracy
    return 0.0 if accuracy is None else accuracy


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
