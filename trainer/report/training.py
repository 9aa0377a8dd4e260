"""Sections on the training itself: the plan, the mixture, learning rate and losses."""

from __future__ import annotations

from typing import Any

from trainer.report.cells import NOTHING, percent
from trainer.report.curves import (
    Curve,
    Frame,
    Plot,
    Point,
    binned,
    dots,
    frame_of,
    line,
    smoothed,
    ticks,
)
from trainer.report.headline import score_of
from trainer.report.summarise import is_general
from trainer.run_facts import RunFacts
from trainer.summary import special_first

_BINS = 240  # of a chart as wide as the page
_TASK_BINS = 80
_KEEP, _TASK_KEEP = 0.85, 0.6  # smoothing of binned values


def plan_rows(facts: RunFacts) -> list[dict[str, Any]]:
    """Every phase of the plan in one line."""
    return [
        {
            "name": name,
            "steps": f"{one['first_step']:,}–{one['last_step']:,}",
            "rows": sum(use["rows"] for use in one["tasks"].values()),
            "negatives": sum(use["negatives"] for use in one["tasks"].values()),
            "tokens": sum(use["tokens"] for use in one["tasks"].values()),
            "tasks": len(one["tasks"]),
            "general": percent(
                sum(u["row_share"] for task, u in one["tasks"].items() if is_general(facts, task))
            ),
            "lr": f"{one['lr_peak']:.2g} → {one['lr_end']:.2g}",
            "warmup": one["warmup_steps"],
            "repeats": max((use["max_repeats"] for use in one["tasks"].values()), default=0),
            "packing": percent(one["packing_efficiency"]),
        }
        for name, one in facts.plan["phases"].items()
    ]


def mixture(facts: RunFacts) -> dict[str, Any]:
    """Per phase and task: share of the rows asked for, shares of rows and answer tokens realised."""
    realised = {
        str(entry["phase"]): entry
        for entry in facts.other_metrics
        if any(key.startswith("mixture/") for key in entry)
    }
    if not facts.plan["phases"]:
        return {"gap": "the plan has no phase yet"}
    phases = []
    for name, plan in facts.plan["phases"].items():
        entry = realised.get(name, {})
        tasks = []
        for task, use in plan["tasks"].items():
            asked = float(entry.get(f"mixture/asked_row_share/{task}", use["asked_share"]))
            rows = float(entry.get(f"mixture/row_share/{task}", use["row_share"]))
            tokens = float(entry.get(f"mixture/token_share/{task}", use["answer_token_share"]))
            tasks.append({"name": task, "asked": asked, "rows": rows, "tokens": tokens})
        tasks.sort(key=lambda one: (is_general(facts, one["name"]), one["name"]))
        high = max((max(one["asked"], one["rows"], one["tokens"]) for one in tasks), default=1.0)
        for one in tasks:
            one["widths"] = [
                round(100 * one[key] / (high or 1.0), 2) for key in ("asked", "rows", "tokens")
            ]
        phases.append({"name": name, "tasks": tasks, "is_planned": name not in realised})
    return {"gap": "", "phases": phases}


def curves(facts: RunFacts) -> dict[str, Any]:
    """The whole run's loss and learning rate; per task, loss and score."""
    if not facts.steps:
        return {"gap": "no step was trained yet"}
    frame = frame_of(facts)
    last = float(facts.steps[-1]["step"])
    return {
        "gap": "",
        "frame": frame,
        "loss": _loss_plot(facts, frame, last),
        "lr": _lr_plot(facts, frame, last),
        "tasks": _task_cards(facts, frame, last),
        "last_step": int(last),
    }


def _loss_plot(facts: RunFacts, frame: Frame, last: float) -> Plot:
    points = binned(facts.steps, "loss", "tokens", _BINS, last)
    smooth = smoothed(points, _KEEP)
    high = max((value for _, value in points), default=1.0)
    return Plot(
        f"training loss, {points[0][1]:.2f} at first, {smooth[-1][1]:.2f} at last",
        (
            Curve("thin", line(points, frame, high)),
            Curve("thick", line(smooth, frame, high)),
        ),
        ticks(high, ".3g"),
        frame.switches,
    )


def _lr_plot(facts: RunFacts, frame: Frame, last: float) -> Plot:
    points = binned(facts.steps, "lr", None, _BINS, last)
    high = max((value for _, value in points), default=1.0)
    return Plot(
        f"learning rate, at most {high:.2g}",
        (Curve("rate", line(points, frame, high)),),
        ticks(high, ".0e"),
        frame.switches,
    )


def _task_cards(facts: RunFacts, frame: Frame, last: float) -> list[dict[str, Any]]:
    names = list(
        dict.fromkeys(k[5:] for entry in facts.steps for k in entry if k.startswith("loss/"))
    )
    if facts.last is not None:
        known = special_first(facts.last, [name for name in names if name in facts.last.tasks])
        names = known + sorted(set(names) - set(known))
    evaluated = _evaluated(facts)
    scored = any(score_of(one, task) for one in facts.evaluations.values() for task in one.tasks)
    return [_card(facts, frame, last, name, evaluated, scored) for name in names]


def _evaluated(facts: RunFacts) -> list[tuple[float, dict[str, Any]]]:
    """Evaluations as metrics have them, those between phases too: step, entry; the newest of a step."""
    found = {
        float(entry["step"]): entry
        for entry in facts.other_metrics
        if any(key.startswith("eval/") for key in entry)
    }
    return sorted(found.items())


def _card(
    facts: RunFacts,
    frame: Frame,
    last: float,
    task: str,
    evaluated: list[tuple[float, dict[str, Any]]],
    scored: bool,
) -> dict[str, Any]:
    points = binned(facts.steps, f"loss/{task}", f"tokens/{task}", _TASK_BINS, last)
    smooth = smoothed(points, _TASK_KEEP)
    held_out = _points(evaluated, f"eval/loss/{task}")
    scores = _points(evaluated, f"eval/score/{task}")
    high = max([value for _, value in smooth] + [value for _, value in held_out[1:]] or [1.0])
    ends = f"{smooth[0][1]:.2f} → {smooth[-1][1]:.2f}" if smooth else NOTHING
    return {
        "name": task,
        "ends": ends,
        "held_out": f"{held_out[-1][1]:.2f}" if held_out else NOTHING,
        "loss": Plot(
            f"loss of {task}: {ends}",
            (
                Curve("thick", line(smooth, frame, high)),
                Curve("dots", "", dots(held_out, frame, high)),
            ),
            (),
            frame.switches,
        ),
        "score": Plot(
            f"score of {task} through the run",
            (
                Curve("score", line(scores, frame, 1.0)),
                Curve("score dots", "", dots(scores, frame, 1.0)),
            ),
            (),
            frame.switches,
        )
        if scored
        else None,
        "score_ends": f"{percent(scores[0][1])} → {percent(scores[-1][1])}" if scores else NOTHING,
    }


def _points(evaluated: list[tuple[float, dict[str, Any]]], key: str) -> list[Point]:
    return [(step, float(entry[key])) for step, entry in evaluated if key in entry]
