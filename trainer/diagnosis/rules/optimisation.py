"""Illnesses of the optimisation: learning rates, divergence, phases that are too short."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from trainer.diagnosis import remedies
from trainer.diagnosis.figures import difference, mean, named
from trainer.diagnosis.finding import Finding, Severity, severity_of
from trainer.diagnosis.reading import Reading
from trainer.diagnosis.rule import Rule
from trainer.evaluation.results import Figure

#: What a broken optimisation can look like afterwards.
AFTERMATH = (
    *("divergence", "task_order", "imbalance", "crowding_out", "overfitting", "wasted_capacity"),
    *("forgetting", "general_forgetting", "gradient_conflict", "crosstalk"),
    *("tags_needed", "over_listing", "asking_back", "refusing", "over_explaining", "truncation"),
    *("format_drift", "routing_or_skill"),
)


#: What the tasks of a phase that had no time to work can look like.
_UNFINISHED = (
    *("over_listing", "asking_back", "refusing", "over_explaining", "truncation"),
    *("format_drift", "routing_or_skill"),
)


class RateAtSwitch(Rule):
    """A learning rate that undoes the phase before: the loss jumps when the phase begins."""

    name = "rate_at_switch"
    looks_at = "each task's training loss before and after a phase switch, gradient norms, scores"

    #: Steps before the switch that the losses are compared with, task by task.
    BEFORE = 20
    #: Steps after it that are averaged: one odd batch is no jump. At least half of the tasks have to be
    #: in them, or one task's hard rows would do.
    WINDOW = 10
    #: Standard errors of such an average that a jump has to exceed. Five is one in millions.
    ERRORS = 5.0
    #: Jumps below this many nats, or this share of the loss before, come with every re-warming.
    LEAST_NATS = 0.2
    LEAST_RATIO = 0.5

    def missing(self, run: Reading) -> str:
        return "" if len(run.phases) > 1 else "the run has one phase"

    def check(self, run: Reading) -> list[Finding]:
        found = [self._switch(run, before, after) for before, after in pairwise(run.phases)]
        return [one for one in found if one is not None]

    def _switch(self, run: Reading, before: str, after: str) -> Finding | None:
        old, new = run.steps[before][-self.BEFORE :], run.steps[after]
        usual = _usual_losses(old)
        windows = [new[i : i + self.WINDOW] for i in range(max(1, len(new) - self.WINDOW + 1))]
        jumps = [_excess(window, usual) for window in windows]
        jump = max(
            (one for one in jumps if one is not None), key=lambda one: one.nats, default=None
        )
        if jump is None:
            return None
        level = statistics.fmean(one.mean for one in usual.values())
        least = max(self.ERRORS * jump.error, self.LEAST_NATS, self.LEAST_RATIO * level)
        if jump.nats <= least:
            return None
        old_lr, new_lr = (run.phases[one]["lr"] for one in (before, after))
        if new_lr <= old_lr and _worded(run, before) != _worded(run, after):
            return None  # the prompts changed: that is another loss, not a worse model
        end = next(one for one in reversed(jumps) if one is not None)
        fall = _fall(run, before, after)
        stays = end.nats > max(self.ERRORS * end.error, self.LEAST_NATS)
        if not stays and (fall is None or fall.low <= 0):
            return None  # it cost nothing
        where = windows[jumps.index(jump)][0]["step"]
        evidence = [
            f"After the switch to phase '{after}' the training loss of the tasks that both phases train on "
            f"rises by {jump.nats:.2f} nats (mean of up to {self.WINDOW} steps from step {where}, standard "
            f"error {jump.error:.3f}); over the last {len(old)} steps of '{before}' it was {level:.2f}.",
            f"Learning rate: {old_lr:.3g} at its peak in '{before}', {new_lr:.3g} in '{after}'.",
        ]
        norms = [entry["grad_norm"] for entry in old if math.isfinite(entry["grad_norm"])]
        top = max(entry["grad_norm"] for entry in new)
        if norms and top > 5 * statistics.median(norms):
            evidence.append(
                f"The gradient norm reaches {top:.3g}; its median before was "
                f"{statistics.median(norms):.3g}."
            )
        if stays:
            evidence.append(f"It has not come down by the end of the phase: {end.nats:+.2f} nats.")
        severity, score = Severity.high if stays else Severity.medium, 0.0
        if fall is not None:
            evidence.append(
                f"The mean score of the specialised tasks changed by {-100 * fall.value:+.1f} points "
                "over the phase."
            )
            if fall.low > 0:
                severity, score = severity_of(
                    dict.fromkeys(run.special, fall.value), len(run.special)
                )
        rate = old_lr / 2 if new_lr > old_lr else new_lr / 3
        return Finding(
            self.name,
            f"learning rate too high at the start of phase '{after}'",
            severity,
            evidence,
            remedies.gentler(run, after, rate),
            list(run.special),
            score,
            explains=AFTERMATH if severity is Severity.high else ("divergence",),
            everywhere=True,
        )


class Divergence(Rule):
    """Training that ends worse than it began, or in no number at all."""

    name = "divergence"
    looks_at = "losses and gradient norms of every step"

    #: Steps at the beginning and at the end of a phase that are compared, task by task.
    ENDS = 5
    #: A task's loss has to end this many nats and this factor above its beginning.
    LEAST_NATS = 0.2
    LEAST_FACTOR = 1.2

    def missing(self, run: Reading) -> str:
        return "" if any(run.steps.values()) else "no step is in metrics.jsonl"

    def check(self, run: Reading) -> list[Finding]:
        found = []
        for phase, steps in run.steps.items():
            evidence = self._not_a_number(steps) or self._rising(run, steps)
            if evidence:
                lr = run.phases[phase]["lr"]
                found.append(
                    Finding(
                        self.name,
                        f"training diverges in phase '{phase}'",
                        Severity.high,
                        [*evidence, f"Its learning rate is {lr:.3g}."],
                        remedies.gentler(run, phase, lr / 3),
                        list(run.special),
                        1.0,
                        explains=AFTERMATH,
                        everywhere=True,
                    )
                )
        return found

    def _not_a_number(self, steps: Sequence[dict[str, Any]]) -> list[str]:
        bad = [
            one["step"]
            for one in steps
            if not (math.isfinite(one["loss"]) and math.isfinite(one["grad_norm"]))
        ]
        if not bad:
            return []
        return [
            f"Loss or gradient norm is not finite in {len(bad)} of {len(steps)} steps, first in step "
            f"{bad[0]}."
        ]

    def _rising(self, run: Reading, steps: Sequence[dict[str, Any]]) -> list[str]:
        ends: dict[str, tuple[float, float]] = {}
        for task in run.use:
            losses = [entry[f"loss/{task}"] for entry in steps if f"loss/{task}" in entry]
            if len(losses) >= 4 * self.ENDS:
                ends[task] = (
                    statistics.fmean(losses[: self.ENDS]),
                    statistics.fmean(losses[-self.ENDS :]),
                )
        worse = {
            task: (first, last)
            for task, (first, last) in ends.items()
            if last > first * self.LEAST_FACTOR and last > first + self.LEAST_NATS
        }
        if not ends or len(worse) <= len(ends) / 2:
            return []
        parts = [f"{task} {first:.2f} -> {last:.2f}" for task, (first, last) in worse.items()]
        return [
            f"The training loss of {len(worse)} of {len(ends)} tasks is higher in the last {self.ENDS} "
            f"of their steps than in the first ({named(parts)} nats)."
        ]


class SmallPhase(Rule):
    """A phase that is over before its optimizer, warm-up or tasks had their turn."""

    name = "small_phase"
    looks_at = "steps and rows of each phase, warm-up, beta2"

    #: A kept second moment is the last phase's for about 1 / (1 - beta2) steps (docs/recipes.md); shorter
    #: than this part of it, a phase is trained with its predecessor's step sizes alone.
    HOPELESS = 0.2
    #: Fewer rows than this of one of its tasks teach it next to nothing.
    FEW_ROWS = 8

    def check(self, run: Reading) -> list[Finding]:
        found = []
        small = {phase: self.reasons(run, phase) for phase in run.phases}
        everywhere = all(small.values())
        for phase, reasons in small.items():
            if not reasons:
                continue
            steps, memory, few = run.steps_planned[phase], self._memory(run), self._few(run, phase)
            hopeless = steps < self.HOPELESS * memory or steps <= _warmup(run, phase)
            long = max(math.ceil(2 * memory), 2 * steps)
            share = steps / sum(run.steps_planned.values())
            found.append(
                Finding(
                    self.name,
                    f"phase '{phase}' is too short to do its work",
                    Severity.high if hopeless else Severity.medium,
                    [*reasons, f"It is {share:.1%} of the run's steps."],
                    remedies.length(run, phase, long),
                    list(few if few and len(reasons) == 1 else self._main(run, phase)),
                    0.0,
                    explains=AFTERMATH if everywhere else _UNFINISHED if hopeless else (),
                    everywhere=everywhere,
                )
            )
        return found

    def reasons(self, run: Reading, phase: str) -> list[str]:
        """Why a phase is too short; empty where it is not."""
        steps, memory, warmup = run.steps_planned[phase], self._memory(run), _warmup(run, phase)
        follows = phase != next(iter(run.phases))
        found = []
        if steps <= warmup:
            found.append(f"It has {steps} steps, all of them warm-up ({warmup} are asked for).")
        if follows and run.phases[phase]["optimizer_state"] == "keep" and steps < memory - 1e-6:
            beta2 = run.config["optimizer"]["beta2"]
            found.append(
                f"It has {steps} steps, but beta2 {beta2:g} averages squared gradients over about "
                f"{memory:.0f}: their size is the last phase's for most of it."
            )
        few = self._few(run, phase)
        if few:
            found.append(
                f"It draws fewer than {self.FEW_ROWS} rows of {len(few)} of its tasks "
                f"({named(f'{task} {rows}' for task, rows in few.items())})."
            )
        return found

    def _few(self, run: Reading, phase: str) -> dict[str, int]:
        rows = {task: use["rows"] for task, use in self._main(run, phase).items()}
        return {task: count for task, count in rows.items() if count < self.FEW_ROWS}

    def _memory(self, run: Reading) -> float:
        return 1 / (1 - float(run.config["optimizer"]["beta2"]))

    def _main(self, run: Reading, phase: str) -> dict[str, dict[str, Any]]:
        """The phase's own tasks: neither general ones nor the rest."""
        groups, names = run.config["data"]["groups"], run.phases[phase]["tasks"]
        own = {task for name in names for task in groups.get(name, [name])}
        return {
            task: use
            for task, use in run.planned(phase).items()
            if not run.tasks[task]["general"] and ("all" in own or task in own)
        }


@dataclass(frozen=True)
class _Usual:
    """A task's loss over some steps: mean and standard deviation."""

    mean: float
    spread: float


@dataclass(frozen=True)
class _Excess:
    """Mean over tasks of a window's loss above usual, and its standard error."""

    nats: float
    error: float


def _usual_losses(steps: Sequence[dict[str, Any]]) -> dict[str, _Usual]:
    """``loss/<task>`` -> its loss over steps, where at least three of them have it."""
    return {
        name: _Usual(statistics.fmean(some), statistics.stdev(some))
        for name, some in _losses(steps).items()
        if len(some) >= 3
    }


def _excess(steps: Sequence[dict[str, Any]], usual: dict[str, _Usual]) -> _Excess | None:
    """A window against usual, each task counting alike; None where most tasks are not in it."""
    found = {name: some for name, some in _losses(steps).items() if name in usual}
    if not found or 2 * len(found) < len(usual):
        return None
    above = [statistics.fmean(some) - usual[name].mean for name, some in found.items()]
    variance = sum(usual[name].spread ** 2 / len(some) for name, some in found.items())
    return _Excess(statistics.fmean(above), math.sqrt(variance) / len(found))


def _losses(steps: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    losses: dict[str, list[float]] = {}
    for entry in steps:
        for name, value in entry.items():
            if name.startswith("loss/") and math.isfinite(value):
                losses.setdefault(name, []).append(value)
    return losses


def _fall(run: Reading, before: str, after: str) -> Figure | None:
    """How far the mean score of the specialised tasks fell over a phase; None where not measured."""
    pairs = []
    for task in run.special:
        scores = run.scores_of(task)
        if before in scores and after in scores:
            pairs.append((scores[before], scores[after]))
    if not pairs:
        return None
    return difference(mean([old for old, _ in pairs]), mean([new for _, new in pairs]))


def _worded(run: Reading, phase: str) -> tuple[bool, str]:
    return run.has_boundary(phase), str(run.phases[phase]["prompts"])


def _warmup(run: Reading, phase: str) -> int:
    return run.facts.plan["phases"][phase]["warmup_steps"]
