"""Illnesses of the mixture: starved tasks, a task that crowds others out, rows learned by heart, waste."""

from __future__ import annotations

from itertools import pairwise

from trainer.diagnosis import remedies
from trainer.diagnosis.figures import difference, mean, named, percent
from trainer.diagnosis.finding import Finding, Severity, severity_of
from trainer.diagnosis.reading import Reading
from trainer.diagnosis.remedies import key
from trainer.diagnosis.rule import Rule
from trainer.diagnosis.rules.optimisation import SmallPhase

_CONSEQUENCES = (
    *("routing_or_skill", "wasted_capacity", "format_drift", "gradient_conflict", "crosstalk"),
    "small_phase",
)


def _unscored(run: Reading) -> str:
    if len([task for task in run.scores if task in run.use]) < 3:
        return "fewer than three trained tasks have a score"
    return ""


def crowding_task(run: Reading) -> tuple[str, float, str] | None:
    """The one task that dwarfs all others, its share, and of what: rows or answer tokens."""
    tasks = [task for task in run.scores if task in run.use]
    for unit in ("rows", "answer tokens"):
        amounts = {task: _amount(run, task, unit) for task in tasks}
        first, second = sorted(amounts, key=lambda task: -amounts[task])[:2]
        share = amounts[first] / sum(amounts.values())
        if share >= CrowdingOut.SHARE and amounts[first] >= CrowdingOut.TIMES * amounts[second]:
            return first, share, unit
    return None


def _amount(run: Reading, task: str, unit: str) -> int:
    return run.use[task].rows if unit == "rows" else run.use[task].answer_tokens


class CrowdingOut(Rule):
    """One task takes so much of the training that the others stay behind."""

    name = "crowding_out"
    looks_at = "each task's share of rows and answer tokens, scores"

    #: Share of the specialised tasks' rows or answer tokens, and times the second task's. 0.35 is what
    #: three and a half of ten level tasks have.
    SHARE = 0.35
    TIMES = 3.0

    def missing(self, run: Reading) -> str:
        return _unscored(run)

    def check(self, run: Reading) -> list[Finding]:
        found = crowding_task(run)
        if found is None:
            return []
        crowd, share, unit = found
        others = {task: one for task, one in run.scores.items() if task != crowd}
        gap = difference(run.scores[crowd], mean(list(others.values())))
        if gap.low <= 0:
            return []
        behind = {
            task: run.scores[crowd].value - one.value
            for task, one in others.items()
            if one.high < run.scores[crowd].low
        }
        severity, score = severity_of(behind, len(run.evaluated))
        amounts = {task: _amount(run, task, unit) for task in run.scores if task in run.use}
        least = min(amounts, key=lambda task: amounts[task])
        evidence = [
            f"{crowd} has {share:.0%} of the specialised tasks' {unit} over the run; {least} has "
            f"{amounts[least] / sum(amounts.values()):.1%}.",
            f"Its score is {percent(run.scores[crowd])}, the mean of the others "
            f"{percent(mean(list(others.values())))}.",
        ]
        leaks = [
            f"{prompt_set} {one.polluters[crowd]:.1%}"
            for prompt_set, one in (run.facts.last.crosstalk if run.facts.last else {}).items()
            if one.polluters.get(crowd, 0.0) >= 0.02
        ]
        if leaks:
            evidence.append(f"Its behaviour shows in the other tasks' answers: {named(leaks)}.")
        overrides = remedies.levelled(run)
        if unit != "rows":
            overrides = [f"{key(phase)}.loss_normalization=task" for phase in run.phases]
        return [
            Finding(
                self.name,
                f"{crowd} crowds the other tasks out",
                severity,
                evidence,
                overrides,
                [crowd, *behind],
                score,
                explains=_CONSEQUENCES,
            )
        ]


class Imbalance(Rule):
    """Tasks with far fewer rows than others, and lower scores."""

    name = "imbalance"
    looks_at = "each task's rows over the run, scores"

    #: Largest over smallest task; as in the advice of ``launch/prepare.py``.
    RATIO = 5.0

    def missing(self, run: Reading) -> str:
        return _unscored(run)

    def check(self, run: Reading) -> list[Finding]:
        tasks = sorted(
            (task for task in run.scores if task in run.use), key=lambda task: run.use[task].rows
        )
        crowd = crowding_task(run)
        if crowd is not None:
            tasks.remove(crowd[0])  # its share is the matter of `crowding_out`
        most, least = tasks[-1], tasks[0]
        ratio = run.use[most].rows / max(1, run.use[least].rows)
        if ratio < self.RATIO:
            return []
        half = len(tasks) // 2
        rare, frequent = tasks[:half], tasks[-half:]
        above = mean([run.scores[task] for task in frequent])
        below = mean([run.scores[task] for task in rare])
        if difference(above, below).low <= 0:
            return []
        behind = {
            task: above.value - run.scores[task].value
            for task in rare
            if run.scores[task].high < above.low
        }
        severity, score = severity_of(behind, len(run.evaluated))
        return [
            Finding(
                self.name,
                "rare tasks are starved",
                severity,
                [
                    f"{most} was trained on {run.use[most].rows:,} rows, {ratio:.0f} times as many as "
                    f"{least} ({run.use[least].rows:,}).",
                    f"The rarer half of the tasks ({named(f'{t} {run.use[t].rows:,}' for t in rare)} rows) "
                    f"has a mean score of {percent(below)}, the more frequent half {percent(above)}.",
                    "Tasks also differ in how hard they are; the control is the same run, balanced.",
                ],
                remedies.levelled(run),
                list(behind) or rare,
                score,
                explains=_CONSEQUENCES,
            )
        ]


class Overfitting(Rule):
    """Rows drawn so often that they are learned by heart, while the evaluation loss stays or rises."""

    name = "overfitting"
    looks_at = (
        "how often rows were drawn, the loss on training rows against that on evaluation rows"
    )

    #: About four repeats of a row are nearly free, sixteen gain little (docs/recipes.md).
    REPEATS = 16.0
    FREE_REPEATS = 4.0
    #: The evaluation loss has to be this factor and this many nats above the training rows'.
    FACTOR = 2.0
    NATS = 0.3
    #: And the gap this many nats above the median of the tasks with at most half as many repeats.
    BEYOND_OTHERS = 0.2
    #: An evaluation loss this far above its own minimum is rising: a severe case. So is a gap of this many
    #: nats where there is no second evaluation to tell.
    RISING = 1.1
    HIGH_NATS = 1.0

    def missing(self, run: Reading) -> str:
        if all(one.train_loss is None for one in run.evaluated.values()):
            return "the loss on training rows was not measured (evaluation.train_rows)"
        return ""

    def check(self, run: Reading) -> list[Finding]:
        gaps = {
            task: one.loss - one.train_loss
            for task, one in run.evaluated.items()
            if one.train_loss is not None and task in run.use
        }
        worst: dict[str, float] = {}
        evidence = []
        severe = False
        for task, gap in gaps.items():
            repeats = run.use[task].repeats
            result = run.evaluated[task]
            others = sorted(gaps[other] for other in gaps if run.use[other].repeats <= repeats / 2)
            usual = others[len(others) // 2] if others else 0.0
            if (
                repeats < self.REPEATS
                or gap < self.NATS
                or result.loss < self.FACTOR * (result.train_loss or 0.0)
                or gap < usual + self.BEYOND_OTHERS
            ):
                continue
            best = min(run.losses_of(task)[column] for column in run.losses_of(task))
            rising = result.loss > self.RISING * best
            worst[task] = gap
            severe |= rising or (len(run.phases) == 1 and gap >= self.HIGH_NATS)
            evidence.append(
                f"{task}: {run.use[task].rows:,} rows from {run.use[task].distinct:,}, each about "
                f"{repeats:.0f} times; loss {result.train_loss:.2f} on training rows, {result.loss:.2f} on "
                f"evaluation rows{f', up from {best:.2f}' if rising else ''}."
            )
        if not worst:
            return []
        tasks = sorted(worst, key=lambda task: -worst[task])
        scores = [run.scores[task].value for task in run.scores if task not in worst]
        usual_score = sum(scores) / len(scores) if scores else 0.0
        lost = {
            task: max(0.0, usual_score - run.scores[task].value)
            for task in tasks
            if task in run.scores
        }
        blamed = [
            phase
            for phase in run.phases
            if any(
                run.planned(phase)[task]["max_repeats"] > self.FREE_REPEATS
                for task in tasks
                if task in run.planned(phase)
            )
        ]
        return [
            Finding(
                self.name,
                "few rows are learned by heart",
                Severity.high if severe else Severity.medium,
                evidence,
                remedies.fewer_repeats(run, blamed, self.FREE_REPEATS),
                tasks,
                severity_of(lost, len(run.evaluated))[1],
                explains=("imbalance", "routing_or_skill", "forgetting"),
            )
        ]


class WastedCapacity(Rule):
    """Steps that no longer move anything, and micro-batches that are mostly padding."""

    name = "wasted_capacity"
    looks_at = "what each phase changed against its share of the steps; padding"

    #: A phase with at least this share of the steps should move something.
    STEPS = 0.2
    #: The mean loss over its own tasks has to fall by this share.
    LOSS_FALL = 0.02
    #: A task that certainly had this score already, and still takes this many level shares of the rows.
    SATURATED = 0.95
    SHARES = 1.5
    #: Real tokens over computed positions: below, more than half is padding.
    PACKING = 0.5

    def check(self, run: Reading) -> list[Finding]:
        found = []
        for before, phase in pairwise(run.evaluations):
            if phase in run.phases and before in run.phases:
                found += self._phase(run, before, phase)
        return [*found, *self._padding(run)]

    def _phase(self, run: Reading, before: str, phase: str) -> list[Finding]:
        share = run.steps_planned[phase] / sum(run.steps_planned.values())
        old, new = (run.evaluations[one].special for one in (before, phase))
        both = [task for task in run.planned(phase) if task in old and task in new]
        if not both or SmallPhase().reasons(run, phase):
            return []
        found = []
        scores = [(old[task].score, new[task].score) for task in both]
        pairs = [(a, b) for a, b in scores if a is not None and b is not None]
        losses = [sum(one[task].loss for task in both) / len(both) for one in (old, new)]
        if share >= self.STEPS and pairs and losses[1] > (1 - self.LOSS_FALL) * losses[0]:
            gain = difference(mean([b for _, b in pairs]), mean([a for a, _ in pairs]))
            if gain.low <= 0 <= gain.high:
                found.append(
                    Finding(
                        self.name,
                        f"phase '{phase}' changes nothing",
                        Severity.low,
                        [
                            f"It takes {share:.0%} of the steps; the mean score of its tasks changes by "
                            f"{100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to "
                            f"{100 * gain.high:+.1f}), their mean evaluation loss from {losses[0]:.3f} to "
                            f"{losses[1]:.3f} nats.",
                        ],
                        remedies.length(run, phase, max(1, run.steps_planned[phase] // 2)),
                        both,
                        0.0,
                    )
                )
        level = 1 / len(both)
        use = run.planned(phase)
        for task in both:
            score = old[task].score
            taken = use[task]["row_share"] / sum(use[one]["row_share"] for one in both)
            if (
                score is not None
                and score.low >= self.SATURATED
                and taken >= self.SHARES * level
                and len(both) > 2
            ):
                found.append(
                    Finding(
                        self.name,
                        f"phase '{phase}' spends its rows on {task}, which is learned",
                        Severity.low,
                        [
                            f"{task} had {percent(score)} before the phase and takes {taken:.0%} of "
                            "the rows of its specialised tasks."
                        ],
                        remedies.levelled(run),
                        [task],
                        0.0,
                    )
                )
        return found

    def _padding(self, run: Reading) -> list[Finding]:
        if run.config["data"]["packing"]:
            return []
        wasteful = {
            phase: entry["packing_efficiency"]
            for phase, entry in run.facts.plan["phases"].items()
            if entry["packing_efficiency"] < self.PACKING
        }
        if not wasteful:
            return []
        return [
            Finding(
                self.name,
                "much of the computation is padding",
                Severity.low,
                [
                    "Real tokens are "
                    f"{named(f'{one:.0%} in {phase!r}' for phase, one in wasteful.items())} "
                    "of the computed positions."
                ],
                ["data.packing=true"],
                [],
                0.0,
            )
        ]
