"""Sections on what phases and tasks do to each other: forgetting, loss transfer, gradient conflict."""

from __future__ import annotations

from itertools import combinations
from typing import Any

from trainer.evaluation.forgetting import Forgotten, PhaseEffect, forgetting, trained_tasks
from trainer.evaluation.loss_transfer import loss_transfer
from trainer.report.cells import (
    NOTHING,
    Cell,
    HeatTable,
    Row,
    either,
    heat_table,
    matrix,
    percent,
    signed,
)
from trainer.report.scores import marks_of
from trainer.run_facts import RunFacts
from trainer.summary import special_first

_FULL = 0.3  # a change of score of this size has the full colour
_PAIRS = 8


def forgotten(facts: RunFacts) -> dict[str, Any]:
    """What was forgotten, by score or else by loss; what each phase did to each task; retention."""
    last = facts.last
    if last is None or len(facts.evaluations) < 2:
        return {
            "gap": "it takes two evaluations: evaluation.before_training and evaluation.at_phase_end"
        }
    trained = trained_tasks(facts.plan)
    account = forgetting(facts.evaluations, trained)
    by_score = bool(account.score)
    order = special_first(last, [task for task in last.tasks if task in account.loss])
    return {
        "gap": "",
        "by_score": by_score,
        "tasks": [
            _line(task, account.score.get(task), account.loss[task], marks_of(last).get(task, ""))
            for task in order
        ],
        "backward": None
        if account.backward_transfer is None
        else signed(account.backward_transfer),
        "backward_loss": None
        if account.backward_transfer_loss is None
        else f"{account.backward_transfer_loss:+.3f}".replace("-", "−"),
        "effects": _effects(account.effects, order, list(facts.evaluations)[1:], by_score),
        "hurt": sorted({one.task for one in account.effects if one.hurt and by_score}),
        "transfer": _transfer(facts, trained, order),
        "retention": [
            {
                "phase": one.phase,
                "score": NOTHING
                if one.score_before is None or one.score_after is None
                else f"{percent(one.score_before)} → {percent(one.score_after)}",
                "loss": f"{one.loss_before:.3f} → {one.loss_after:.3f}",
            }
            for one in account.retention
        ],
    }


def _line(task: str, score: Forgotten | None, loss: Forgotten, mark: str) -> dict[str, Any]:
    return {
        "name": task,
        "mark": mark,
        "best": NOTHING if score is None else percent(score.best),
        "column": NOTHING if score is None else score.best_column,
        "now": NOTHING if score is None else percent(score.now),
        "fall": NOTHING if score is None else signed(-score.forgotten),
        "kind": "" if score is None else either(-score.forgotten, _FULL),
        "certain": score is not None and bool(score.disjoint),
        "loss": f"{loss.best:.3f} → {loss.now:.3f}",
    }


def _effects(
    effects: list[PhaseEffect], tasks: list[str], phases: list[str], by_score: bool
) -> HeatTable:
    """Task x phase: change of score in points, or of loss; a dot marks tasks the phase trained on."""
    found = {(one.task, one.phase): one for one in effects}
    most = max((abs(one.loss_change) for one in effects), default=0.0)
    rows = []
    for task in tasks:
        cells = []
        for phase in phases:
            one = found.get((task, phase))
            if one is None or (by_score and one.score_change is None):
                cells.append(Cell(NOTHING, "zero"))
                continue
            mark = "" if one.trained else " ○"
            title = "" if one.trained else "not trained on in this phase"
            if by_score and one.score_change is not None:
                sure = "*" if one.disjoint else ""
                kind = either(one.score_change, _FULL)
                cells.append(Cell(f"{signed(one.score_change)}{sure}{mark}", kind, title))
            else:
                text = f"{one.loss_change:+.3f}".replace("-", "−")
                cells.append(Cell(f"{text}{mark}", either(-one.loss_change, most), title))
        rows.append(Row(task, cells))
    return heat_table("task", phases, rows)


def _transfer(facts: RunFacts, trained: dict[str, list[str]], tasks: list[str]) -> HeatTable:
    """Task x phase: share of the loss that a phase took away."""
    table = loss_transfer(facts.evaluations, trained)
    most = max((abs(z) for one in table for z in one.transfer.values()), default=0.0)
    rows = [
        Row(
            task,
            [
                Cell(signed(one.transfer[task]), either(one.transfer[task], most))
                if task in one.transfer
                else Cell(NOTHING, "zero")
                for one in table
            ],
        )
        for task in tasks
    ]
    foot = [
        Row(
            "mean of tasks not trained on",
            [Cell(NOTHING if one.to_others is None else signed(one.to_others)) for one in table],
        )
    ]
    return heat_table("task", [one.phase for one in table], rows, foot)


def conflict(facts: RunFacts) -> dict[str, Any]:
    """Cosines between the tasks' gradients: the last measurement, and how they went."""
    if not facts.interference:
        every = facts.config.get("interference", {}).get("every_steps")
        if every is None:
            return {"gap": "gradients were not compared: interference.every_steps=null"}
        return {"gap": f"no step reached interference.every_steps={every}"}
    last = facts.interference[-1]
    tasks = list(last["tasks"])
    pairs = [
        (last["cosine"][i][j], tasks[i], tasks[j]) for i, j in combinations(range(len(tasks)), 2)
    ]
    pairs.sort()

    def kind(task: str, other: str, value: float) -> str:
        return "" if task == other else either(value, 1.0)

    def text(value: float, narrow: bool) -> str:
        words = f"{round(100 * value)}" if narrow else f"{round(value, 2) + 0.0:.2f}"
        return words.replace("-", "−")

    return {
        "gap": "",
        "step": last["step"],
        "phase": last["phase"],
        "matrix": matrix("task", tasks, tasks, last["cosine"], kind, text, {}),
        "pairs": [
            {"one": one, "other": other, "cosine": text(value, False), "kind": either(value, 1.0)}
            for value, one, other in pairs[:_PAIRS]
            if value < 0
        ],
        "noise": [
            (task, f"{value:.2f}") for task, value in zip(tasks, last["self_cosine"], strict=True)
        ],
        "history": [
            {
                "step": entry["step"],
                "phase": entry["phase"],
                "mean": f"{_mean_off_diagonal(entry['cosine']):.2f}".replace("-", "−"),
                "rate": percent(_negative(entry["cosine"])),
            }
            for entry in facts.interference
        ],
        "cost": percent(float(last["share_of_time"])) if "share_of_time" in last else NOTHING,
    }


def _off_diagonal(cosine: list[list[float]]) -> list[float]:
    return [cosine[i][j] for i, j in combinations(range(len(cosine)), 2)]


def _mean_off_diagonal(cosine: list[list[float]]) -> float:
    values = _off_diagonal(cosine)
    return sum(values) / max(1, len(values))


def _negative(cosine: list[list[float]]) -> float:
    values = _off_diagonal(cosine)
    return sum(value < 0 for value in values) / max(1, len(values))
