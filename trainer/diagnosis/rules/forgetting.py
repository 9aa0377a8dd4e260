"""What a run unlearns: general ability, tasks of earlier phases, tasks of earlier stretches."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from itertools import pairwise

from trainer.diagnosis import remedies
from trainer.diagnosis.figures import difference, named, percent
from trainer.diagnosis.finding import Finding, Severity, severity_of
from trainer.diagnosis.reading import Reading
from trainer.diagnosis.remedies import key
from trainer.diagnosis.rule import Rule
from trainer.evaluation.results import Figure


@dataclass(frozen=True)
class Fall:
    """How far a task is below the best it was.

    Attributes:
        fall: best less now; its interval excludes 0.
        phase: after which the score had fallen most.
    """

    task: str
    best_column: str
    best: Figure
    now: Figure
    fall: Figure
    phase: str

    def words(self) -> str:
        return f"{self.task}: {percent(self.best)} after '{self.best_column}', {percent(self.now)} now."


def fall_of(run: Reading, task: str) -> Fall | None:
    """A task's fall, if there is one beyond chance."""
    scores = run.scores_of(task)
    if len(scores) < 2:
        return None
    *earlier, last = scores
    best = max(earlier, key=lambda column: scores[column].value)
    fall = difference(scores[best], scores[last])
    if fall.low <= 0:
        return None
    steps = {
        after: scores[before].value - scores[after].value for before, after in pairwise(scores)
    }
    behind = list(scores)[list(scores).index(best) + 1 :]
    worst = max(behind, key=lambda column: steps[column])
    return Fall(task, best, scores[best], scores[last], fall, worst)


def _no_columns(run: Reading) -> str:
    if len(run.evaluations) < 2:
        return "fewer than two evaluations: nothing to compare"
    return ""


class GeneralForgetting(Rule):
    """General ability lost to the specialised tasks, usually for want of replay."""

    name = "general_forgetting"
    looks_at = "scores, else losses, of the general tasks before and after every phase; replay"

    #: Without a score: a loss that rose by this factor and by this many nats.
    LOSS_FACTOR = 1.2
    LOSS_NATS = 0.1
    #: A loss that rose by this factor is a severe case.
    HIGH_LOSS_FACTOR = 2.0
    #: This much of a general task's score is a severe case.
    HIGH = 0.15

    def missing(self, run: Reading) -> str:
        if not run.general:
            return "no task is general"
        if not any(name in run.evaluated for name in run.general):
            return "no general task is evaluated"
        return _no_columns(run)

    def check(self, run: Reading) -> list[Finding]:
        lost: dict[str, float] = {}
        evidence, phases = [], []
        severe = False
        for task in run.general:
            if task not in run.evaluated:
                continue
            fall = fall_of(run, task)
            if fall is not None:
                lost[task] = fall.fall.value
                severe |= fall.fall.value >= self.HIGH
                evidence.append(fall.words())
                phases.append(fall.phase)
            elif not run.scores_of(task):
                losses = run.losses_of(task)
                *earlier, last = losses
                best = min(losses[column] for column in earlier)
                if losses[last] > max(best * self.LOSS_FACTOR, best + self.LOSS_NATS):
                    lost[task] = 0.0
                    severe |= losses[last] > best * self.HIGH_LOSS_FACTOR
                    rises = {b: losses[b] - losses[a] for a, b in pairwise(losses)}
                    phases.append(max(rises, key=lambda column: rises[column]))
                    evidence.append(
                        f"{task}: loss {best:.2f} nats at its best, {losses[last]:.2f} now."
                    )
        if not lost:
            return []
        blamed = [phase for phase in run.phases if phase in phases] or list(run.phases)
        shares = [f"'{phase}' ({run.phases[phase]['replay']:.0%})" for phase in blamed]
        evidence.append(f"Most was lost in {named(shares)}; in brackets its share of general rows.")
        severity, score = severity_of(lost, len(run.evaluated))
        if severe:
            severity = Severity.high
        elif severity is Severity.high:
            severity = Severity.medium
        overrides = remedies.replayed(run, run.phases)
        if not overrides:
            overrides = [
                one
                for phase in blamed
                for one in remedies.gentler(run, phase, run.phases[phase]["lr"] / 2)
            ]
        return [
            Finding(
                self.name,
                "general ability is forgotten",
                severity,
                evidence,
                overrides,
                list(lost),
                score,
            )
        ]


class Forgetting(Rule):
    """Tasks that an earlier phase had taught better."""

    name = "forgetting"
    looks_at = "every specialised task's best score so far against its score now"

    #: Falls below this many points are not worth a change of the curriculum.
    LEAST = 0.05

    def missing(self, run: Reading) -> str:
        if len([column for column in run.evaluations if column in run.phases]) < 2:
            return "fewer than two phases were evaluated"
        if not run.scores:
            return "no specialised task has a score"
        return ""

    def check(self, run: Reading) -> list[Finding]:
        falls = [fall_of(run, task) for task in run.special]
        by_phase: dict[str, list[Fall]] = {}
        for fall in falls:
            if fall is not None and fall.fall.value >= self.LEAST:
                by_phase.setdefault(fall.phase, []).append(fall)
        return [self._phase(run, phase, some) for phase, some in by_phase.items()]

    def _phase(self, run: Reading, phase: str, falls: list[Fall]) -> Finding:
        lost = {one.task: one.fall.value for one in falls}
        severity, score = severity_of(lost, len(run.evaluated))
        settings = run.phases[phase]
        evidence = [one.words() for one in sorted(falls, key=lambda one: -one.fall.value)[:5]]
        use = run.planned(phase)
        shares = {task: use[task]["row_share"] if task in use else 0.0 for task in lost}
        evidence.append(
            f"Phase '{phase}' hurt {'it' if len(lost) == 1 else 'them'} most; shares of its rows: "
            f"{named(f'{task} {share:.1%}' for task, share in shares.items())}."
        )
        absent = run.special.keys() - _own(run, phase)
        if absent & lost.keys() and settings["rest_share"] < 0.5:
            to = 0.5 if settings["rest_share"] >= 0.25 else 0.25
            overrides = [f"{key(phase)}.rest_share={min(to, 0.9 - settings['replay']):.2g}"]
        elif settings["order"] == "sequential":
            overrides = [f"{key(phase)}.order=mixed"]
        else:
            overrides = remedies.gentler(run, phase, settings["lr"] / 2)
        return Finding(
            self.name,
            f"phase '{phase}' makes the model forget",
            severity,
            evidence,
            overrides,
            list(lost),
            score,
            explains=("crosstalk", "format_drift", "routing_or_skill", "truncation"),
        )


class TaskOrder(Rule):
    """Tasks that are learned and forgotten inside one phase, because it trains them one after another."""

    name = "task_order"
    looks_at = (
        "each task's training loss when it leaves and when it comes back; evaluation loss; order"
    )

    #: Only tasks that have stretches of this many steps with hardly one without in between: others come
    #: in alternating blocks, as `order: grouped` means them, or are rare.
    STRETCH = 5
    #: Steps from one with the task to the next that a stretch may hold.
    HOP = 2
    #: A task that the last fifth of a phase has no row of had its turn earlier.
    UNSEEN = 0.2
    #: Nats by which a task certainly comes back worse than it left, after being away for longer than its
    #: stretch; or, if it does not come back, by which its evaluation loss is above the training loss it was
    #: left with, beyond the same gap of the tasks trained to the end (that is over-fitting).
    LEAST_NATS = 0.5
    #: This share of the tasks has to be forgotten: one of ten is not the order's doing.
    LEAST_SHARE = 0.2

    def missing(self, run: Reading) -> str:
        if not any(phase in run.evaluations for phase in run.phases):
            return "no evaluation at a phase end"
        return ""

    def check(self, run: Reading) -> list[Finding]:
        found = [self._phase(run, phase) for phase in run.phases if phase in run.evaluations]
        return [one for one in found if one is not None]

    def _phase(self, run: Reading, phase: str) -> Finding | None:
        steps, now = run.steps[phase], run.evaluations[phase].special
        seen = {
            task: [(i, one[f"loss/{task}"]) for i, one in enumerate(steps) if f"loss/{task}" in one]
            for task in now
        }
        seen = {task: some for task, some in seen.items() if some}
        left = {task: _mean_of_last(some, self.STRETCH) for task, some in seen.items()}
        gaps = {task: now[task].loss - left[task] for task in seen}
        late = (1 - self.UNSEEN) * len(steps)
        recent = [gaps[task] for task, some in seen.items() if some[-1][0] >= late]
        usual = max(0.0, statistics.median(recent)) if recent else 0.0
        back: dict[str, float] = {}
        gone: dict[str, float] = {}
        for task, some in seen.items():
            stretches = _stretches(some, self.HOP)
            returns = self._returns(stretches)
            if returns is not None and returns.low > self.LEAST_NATS:
                back[task] = returns.value
            elif (
                len(stretches[-1]) >= self.STRETCH
                and some[-1][0] < late
                and gaps[task] > usual + self.LEAST_NATS
            ):
                gone[task] = gaps[task]
        forgotten = back | gone
        share = len(forgotten) / max(1, len(seen))
        if share < self.LEAST_SHARE:
            return None
        evidence = []
        if back:
            parts = [f"{task} {nats:+.2f}" for task, nats in _worst_first(back).items()]
            evidence.append(
                f"{len(back)} of {len(seen)} tasks come back worse than they were left in phase "
                f"'{phase}' ({named(parts)} nats, training loss, mean of their returns)."
            )
        if gone:
            parts = [
                f"{task} left at {left[task]:.2f} in step {steps[seen[task][-1][0]]['step']}, now "
                f"{now[task].loss:.2f}"
                for task in _worst_first(gone)
            ]
            evidence.append(
                f"{len(gone)} of {len(seen)} tasks had their last row before the last fifth of phase "
                f"'{phase}', and lost what they had learned ({named(parts)} nats)."
            )
        evidence.append(f"Its order is {run.phases[phase]['order']}.")
        lost = self._points(run, phase, list(forgotten))
        if lost:
            evidence.append(
                f"Their mean score is {100 * lost[1]:.1f} %, that of the others {100 * lost[0]:.1f} %."
            )
        points = max(0.0, lost[0] - lost[1]) if lost else 0.0
        return Finding(
            self.name,
            f"phase '{phase}' trains task after task and forgets the earlier ones",
            Severity.high,
            evidence,
            [f"{key(phase)}.order=mixed"],
            list(_worst_first(forgotten)),
            share * points,
            explains=(
                *("forgetting", "general_forgetting", "imbalance", "crowding_out", "overfitting"),
                *("crosstalk", "tags_needed", "over_listing", "asking_back", "refusing"),
                *("over_explaining", "truncation", "format_drift", "routing_or_skill"),
                *("wasted_capacity", "rate_at_switch", "divergence"),
            ),
            everywhere=True,
        )

    def _returns(self, stretches: list[list[tuple[int, float]]]) -> Figure | None:
        """How much higher a task's loss is in the first step back than in the last ones before.

        The interval is that of steps which follow each other inside the stretches. None without returns.
        """
        back = [
            new[0][1] - _mean_of_last(old, 3)
            for old, new in pairwise(stretches)
            if len(old) >= self.STRETCH and new[0][0] - old[-1][0] > max(self.STRETCH, len(old))
        ]
        inside = [b[1] - a[1] for one in stretches for a, b in pairwise(one)]
        if not back or not inside:
            return None
        value = statistics.fmean(back)
        half = 1.959964 * statistics.pstdev(inside) / math.sqrt(len(back))
        return Figure(value, value - half, value + half, len(back))

    def _points(self, run: Reading, phase: str, tasks: list[str]) -> tuple[float, float] | None:
        """Mean scores of the other tasks and of these; None where either has none."""
        scores = {
            task: one.score.value
            for task, one in run.evaluations[phase].special.items()
            if one.score is not None
        }
        groups = [
            [value for task, value in scores.items() if (task in tasks) is inside]
            for inside in (False, True)
        ]
        if not all(groups):
            return None
        return statistics.fmean(groups[0]), statistics.fmean(groups[1])


def _stretches(seen: list[tuple[int, float]], hop: int) -> list[list[tuple[int, float]]]:
    """Place and loss of the steps with a task, cut where the next lies more than ``hop`` steps on."""
    found = [[seen[0]]]
    for one in seen[1:]:
        if one[0] - found[-1][-1][0] > hop:
            found.append([])
        found[-1].append(one)
    return found


def _mean_of_last(seen: list[tuple[int, float]], count: int) -> float:
    return statistics.fmean(loss for _, loss in seen[-count:])


def _worst_first(nats: dict[str, float]) -> dict[str, float]:
    return dict(sorted(nats.items(), key=lambda one: -one[1]))


def _own(run: Reading, phase: str) -> set[str]:
    """The tasks that a phase names, groups spelled out."""
    groups = run.config["data"]["groups"]
    own = {task for name in run.phases[phase]["tasks"] for task in groups.get(name, [name])}
    return set(run.special) if "all" in own else own
