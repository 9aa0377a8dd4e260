"""Overrides of this program that the findings name; each is valid for the run it is made for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from trainer.diagnosis.reading import Reading

#: Share of general rows that the curriculum's presets have.
REPLAY = 0.3
#: Share of rows with another task's cue that took crosstalk to 0.3 % (docs/recipes.md), and its double.
CUE_SHARES = (0.2, 0.4)


def key(phase: str) -> str:
    """Configuration key of a phase."""
    return f"curriculum.phases.{phase}"


def levelled(run: Reading) -> list[str]:
    """Tasks nearer to each other in every phase: caps, or a high temperature where caps did not do."""
    found = []
    for phase, settings in run.phases.items():
        to = "temperature" if settings["balance"]["strategy"] == "caps" else "caps"
        found.append(f"balance@{key(phase)}.balance={to}")
    return found


def fewer_repeats(run: Reading, phases: Iterable[str], most: float) -> list[str]:
    """No row of a phase more than ``most`` times: UniMax."""
    return [
        one
        for phase in phases
        for one in (
            f"balance@{key(phase)}.balance=unimax",
            f"{key(phase)}.balance.max_repeats={most:g}",
        )
        if run.phases[phase]["balance"]["strategy"] != "unimax" or "max_repeats" in one
    ]


def length(run: Reading, phase: str, steps: int) -> list[str]:
    """A phase of so many steps, whatever it was given in; the limit of a debug preset taken off."""
    found = [f"{key(phase)}.steps={steps}"]
    found += [
        f"{key(phase)}.{unit}=null"
        for unit in ("epochs", "tokens")
        if run.phases[phase][unit] is not None
    ]
    limit = run.config["limits"]["steps_per_phase"]
    return [
        *found,
        *(["limits.steps_per_phase=null"] if limit is not None and limit < steps else []),
    ]


def replayed(run: Reading, phases: Iterable[str]) -> list[str]:
    """General rows in phases that had none, half as many again in those that had some."""
    if not run.general:
        return []
    found = []
    for phase in phases:
        replay = run.phases[phase]["replay"]
        room = 0.9 - run.phases[phase]["rest_share"]
        to = min(1.5 * replay, room) if replay >= REPLAY else min(REPLAY, room)
        if to > replay:
            found.append(f"{key(phase)}.replay={to:.2g}")
    return found


def gentler(run: Reading, phase: str, lr: float) -> list[str]:
    """A lower learning rate, reached over at least 5 % of the phase."""
    schedule = run.phases[phase]["schedule"]
    found = [f"{key(phase)}.lr={lr:.2g}"]
    if schedule["warmup_steps"] is None and schedule["warmup_ratio"] < 0.05:
        found.append(f"{key(phase)}.schedule.warmup_ratio=0.05")
    return found


def bounded(run: Reading) -> list[str]:
    """Tags and constraints where they are off; nothing where they are on in every phase."""
    boundary = run.config["boundary"]
    found = [] if boundary["tag"] or boundary["constraint"] else ["boundary=tagged"]
    found += [f"{key(one)}.boundary=true" for one in run.phases if not run.phases[one]["boundary"]]
    texts = ("tag", "constraint", "tags", "constraints")
    bare = [
        name
        for name, task in run.tasks.items()
        if not task["general"] and not any(task[text] for text in texts)
    ]
    return [*found, *(f"data.tasks.{name}.tag='[{name}]'" for name in bare)] if found else found


def decorrelated(run: Reading) -> list[str]:
    """Other tasks' cues on requests; more of them where there were some."""
    if not any(task["cues"] for task in run.tasks.values()):
        return []
    found = []
    for phase, settings in run.phases.items():
        to = next((one for one in CUE_SHARES if one > settings["prompts"]["cue_share"]), None)
        if to is not None:
            found.append(f"{key(phase)}.prompts.cue_share={to:g}")
    return found


def rephrased(run: Reading) -> list[str]:
    """Rephrased instructions in the phases that have none, where tasks have templates."""
    if not any(task["paraphrases"] for task in run.tasks.values()):
        return []
    return [
        f"{key(phase)}.prompts.paraphrase_share=0.1"
        for phase, settings in run.phases.items()
        if not settings["prompts"]["paraphrase_share"]
    ]


def pushed_away(run: Reading) -> list[str]:
    """Other tasks' answers as negatives, where there were none."""
    without = [one for one, settings in run.phases.items() if not settings["negatives"]["share"]]
    if not without:
        return []
    rows: dict[str, Any] = run.config["data"]["negatives"]
    source = [] if rows["cross_task"] else ["data.negatives.cross_task=0.1"]
    return [*source, *(f"{key(phase)}.negatives.share=0.1" for phase in without)]
