"""The run in one picture: every task through the phases, and the loss with its learning rate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from data_modules.report.visible import visible
from trainer.evaluation.results import Evaluation
from trainer.summary import label, special_first


def draw_run(evaluations: Mapping[str, Evaluation], metrics: Path, picture: Path) -> None:
    """Write a PNG: a heat map task x phase beside the training curve.

    The heat map shows the main metric, or evaluation loss where no task was judged.

    Args:
        evaluations: column (``initial`` or a phase) -> results, in training order.
        metrics: the run's ``metrics.jsonl``.
    """
    # Drawn off screen and imported late: matplotlib takes a second that no other command needs.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    steps = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    steps = [entry for entry in steps if "loss" in entry]
    figure = Figure(figsize=(12, 4.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    if evaluations:
        _heat_map(left, evaluations)
    else:
        left.set_axis_off()
    _curves(right, steps)
    figure.savefig(picture)


def _heat_map(axes: Any, evaluations: Mapping[str, Evaluation]) -> None:
    columns = list(evaluations)
    last = evaluations[columns[-1]]
    judged = any(result.score is not None for result in last.tasks.values())
    tasks = [task for task, result in last.tasks.items() if not judged or result.score is not None]
    tasks = special_first(last, tasks)

    def value(column: str, task: str) -> float:
        result = evaluations[column].tasks.get(task)
        if result is None or (judged and result.score is None):
            return float("nan")
        return 100 * result.score.value if judged and result.score else result.loss

    grid = [[value(column, task) for column in columns] for task in tasks]
    bounds = {"vmin": 0, "vmax": 100} if judged else {}
    axes.imshow(grid, aspect="auto", cmap="viridis" if judged else "viridis_r", **bounds)
    filled = [x for line in grid for x in line if x == x]
    middle = 50 if judged else (min(filled) + max(filled)) / 2
    for row, line in enumerate(grid):
        for column, cell in enumerate(line):
            dark = cell < middle if judged else cell > middle
            text = f"{cell:.0f}" if judged else f"{cell:.2f}"
            axes.text(column, row, text, ha="center", va="center", color="w" if dark else "k")
    axes.set_xticks(range(len(columns)), map(visible, columns))
    names = [visible(label(task, last.tasks[task])) for task in tasks]
    axes.set_yticks(range(len(tasks)), names)
    for tick in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        tick.set_parse_math(False)  # a name may hold dollars
    axes.set_title("score of the main metric, %" if judged else "evaluation loss, nats/token")


def _curves(axes: Any, steps: list[dict[str, Any]]) -> None:
    numbers = [entry["step"] for entry in steps]
    axes.plot(numbers, [entry["loss"] for entry in steps], lw=0.6, color="C0", alpha=0.35)
    axes.plot(numbers, _smooth([entry["loss"] for entry in steps]), lw=1.6, color="C0")
    axes.set_xlabel("step")
    axes.set_ylabel("training loss", color="C0")
    axes.set_ylim(0, 1.15 * max(entry["loss"] for entry in steps))
    rate = axes.twinx()
    rate.plot(numbers, [entry["lr"] for entry in steps], lw=1.2, color="C1")
    rate.set_ylabel("learning rate", color="C1")
    # room at the top for the phases' names
    rate.set_ylim(0, 1.15 * max(entry["lr"] for entry in steps))
    rate.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for before, entry in pairwise(steps):
        if before["phase"] != entry["phase"]:
            axes.axvline(entry["step"], color="0.6", lw=0.8, ls="--")
    for name in dict.fromkeys(entry["phase"] for entry in steps):
        first = next(entry["step"] for entry in steps if entry["phase"] == name)
        note = axes.annotate(
            visible(name), (first, 0.98), xycoords=("data", "axes fraction"), va="top"
        )
        note.set_parse_math(False)
    axes.set_title("loss (thin: each step) and learning rate through the phases")


def _smooth(values: list[float], keep: float = 0.9) -> list[float]:
    """Exponential moving average without the start-up bias."""
    result: list[float] = []
    total = weight = 0.0
    for value in values:
        total = keep * total + (1 - keep) * value
        weight = keep * weight + (1 - keep)
        result.append(total / weight)
    return result
