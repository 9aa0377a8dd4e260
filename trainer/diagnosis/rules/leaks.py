"""Illnesses of routing: answers in the manner of another task, prompts that need their tags."""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from trainer.diagnosis import remedies
from trainer.diagnosis.figures import difference, mean, named, percent
from trainer.diagnosis.finding import Finding, Severity
from trainer.diagnosis.reading import Reading
from trainer.diagnosis.remedies import key
from trainer.diagnosis.rule import Rule
from trainer.evaluation.results import MIXED, NONE, ORDINARY, Crosstalk, Figure, share, wilson

PARAPHRASE, CONFLICT, NO_TAG = "paraphrase", "conflict", "no_tag"
_ASKED_AS = {
    ORDINARY: "ordinary requests",
    PARAPHRASE: "rephrased requests",
    CONFLICT: "requests with another task's cue",
    NO_TAG: "requests without tags",
}


@dataclass(frozen=True)
class Leak:
    """Answers of one task in the manner of another.

    Attributes:
        rate: their share, less the share of right answers judged as any other task's.
    """

    prompt_set: str
    asked: str
    shown: str
    rate: Figure

    def words(self) -> str:
        return f"{self.asked} -> {self.shown} {self.rate.value:.0%}"


def leaks_of(prompt_set: str, one: Crosstalk, least: float) -> list[Leak]:
    """Every pair that leaks by certainly more than ``least``, the worst first."""
    found = []
    for asked, row in zip(one.tasks, one.matrix, strict=True):
        if asked not in one.per_task:
            continue
        n, gold = one.per_task[asked].rows, one.gold_rate[asked]
        for shown, value in zip(one.labels, row, strict=True):
            if shown in (asked, MIXED, NONE):
                continue
            low, high = wilson(value, n)
            if low - gold > least:
                figure = Figure(value - gold, low - gold, high - gold, n)
                found.append(Leak(prompt_set, asked, shown, figure))
    return sorted(found, key=lambda leak: -leak.rate.value)


def _unjudged(run: Reading) -> str:
    if not run.evaluated:
        return "no evaluation at a phase end"
    if not run.facts.last or not run.facts.last.crosstalk:
        return "behaviours were not judged (evaluation.generate, evaluation.behaviours)"
    return ""


class CrosstalkPairs(Rule):
    """Requests of one task that are answered in the manner of another."""

    name = "crosstalk"
    looks_at = "the crosstalk matrix of every prompt set but no_tag"

    #: A pair leaks where certainly more than this share of the answers does.
    PAIR = 0.05
    #: A severe case: a set's rate is certainly above this, or a pair certainly above that.
    HIGH_RATE = 0.10
    HIGH_PAIR = 0.30

    def missing(self, run: Reading) -> str:
        return _unjudged(run)

    def check(self, run: Reading) -> list[Finding]:
        last = run.facts.last
        assert last is not None  # as `missing` has it
        sets = {name: one for name, one in last.crosstalk.items() if name != NO_TAG}
        leaks = {name: leaks_of(name, one, self.PAIR) for name, one in sets.items()}
        leaky = [name for name, found in leaks.items() if found]
        if not leaky:
            return []
        evidence = [
            f"{sets[name].rate.value:.1%} of the answers to {_ASKED_AS[name]} show another task's "
            f"behaviour ({sets[name].rate.low:.1%}-{sets[name].rate.high:.1%}): "
            f"{named(leak.words() for leak in leaks[name])}."
            for name in leaky
        ]
        tight = [name for name in sets if name not in leaky]
        if tight:
            evidence.append(f"No pair leaks on {', '.join(_ASKED_AS[name] for name in tight)}.")
        worst = max(leaky, key=lambda name: sets[name].rate.value)
        polluter = max(sets[worst].polluters, key=lambda task: sets[worst].polluters[task])
        evidence.append(
            f"Most of it is the manner of {polluter}: {sets[worst].polluters[polluter]:.1%} of the "
            "other tasks' answers."
        )
        severe = any(
            sets[name].rate.low > self.HIGH_RATE or leaks[name][0].rate.low > self.HIGH_PAIR
            for name in leaky
        )
        every = [leak for name in leaky for leak in leaks[name]]
        return [
            Finding(
                self.name,
                f"{every[0].asked} is answered like {every[0].shown}"
                if len(every) == 1
                else f"crosstalk on {', '.join(_ASKED_AS[name] for name in leaky)}",
                Severity.high if severe else Severity.medium,
                evidence,
                self._remedy(run, leaky),
                list(dict.fromkeys(leak.asked for leak in every)),
                statistics.fmean(one.rate.value for one in sets.values()),
                explains=(
                    *("format_drift", "over_listing", "asking_back", "refusing", "truncation"),
                    *("routing_or_skill", "tags_needed"),
                ),
            )
        ]

    def _remedy(self, run: Reading, leaky: list[str]) -> list[str]:
        """Boundaries where they are off; else what the leaky sets call for, negatives at last."""
        bounded = remedies.bounded(run)
        cues = remedies.decorrelated(run) if CONFLICT in leaky else []
        words = remedies.rephrased(run) if PARAPHRASE in leaky else []
        return [*bounded, *cues, *words] or remedies.pushed_away(run)


class TagsNeeded(Rule):
    """A model that does its tasks only where their tags are written."""

    name = "tags_needed"
    looks_at = "crosstalk and scores of the no_tag set against the ordinary one"

    #: Crosstalk without tags has to be certainly this much higher.
    MORE_LEAKS = 0.05

    def missing(self, run: Reading) -> str:
        if not any(run.has_boundary(phase) for phase in run.phases):
            return "no phase has tags or constraints"
        if why := _unjudged(run):
            return why
        sets = run.facts.last.crosstalk if run.facts.last else {}
        missing = [name for name in (ORDINARY, NO_TAG) if name not in sets]
        return (
            f"prompt set {', '.join(missing)} is not in evaluation.prompt_sets" if missing else ""
        )

    def check(self, run: Reading) -> list[Finding]:
        last = run.facts.last
        assert last is not None  # as `missing` has it
        without, with_tags = last.crosstalk[NO_TAG], last.crosstalk[ORDINARY]
        more = difference(without.rate, with_tags.rate)
        if more.low <= self.MORE_LEAKS:
            return []
        leaks = leaks_of(NO_TAG, without, CrosstalkPairs.PAIR)
        scores = [
            (one.score, one.score_on(NO_TAG))
            for one in run.special.values()
            if one.score is not None
        ]
        pairs = [(a, b) for a, b in scores if a is not None and b is not None]
        evidence = [
            f"Crosstalk is {with_tags.rate.value:.1%} with tags and {without.rate.value:.1%} without "
            f"({named(leak.words() for leak in leaks) or 'spread over many pairs'}).",
        ]
        score = 0.0
        if pairs:
            fall = difference(mean([a for a, _ in pairs]), mean([b for _, b in pairs]))
            score = max(0.0, fall.value)
            evidence.append(f"The mean score is {100 * fall.value:.1f} points lower without tags.")
        dropouts = {name: run.phases[name]["prompts"]["tag_dropout"] for name in run.phases}
        evidence.append(
            f"Rows trained without tags: {named(f'{n} {d:.0%}' for n, d in dropouts.items())}."
        )
        return [
            Finding(
                self.name,
                "the tasks are told apart by their tags alone",
                Severity.medium,
                evidence,
                [
                    f"{key(phase)}.prompts.tag_dropout={0.1 if dropout < 0.1 else 0.3:g}"
                    for phase, dropout in dropouts.items()
                    if dropout < 0.3 and run.has_boundary(phase)
                ],
                list(dict.fromkeys(leak.asked for leak in leaks)),
                score,
            )
        ]


class RoutingOrSkill(Rule):
    """Advice on a weak task: A = routing x skill says whether boundaries or data are to be mended."""

    name = "routing_or_skill"
    looks_at = "score, share of answers with the own behaviour, score among those"

    #: Without a target a task is weak that is certainly this far below the mean of the others.
    BELOW_MEAN = 0.25
    #: Routing is to blame where certainly less than this share has the own behaviour, and it is lower than
    #: the skill.
    ROUTED = 0.9

    def missing(self, run: Reading) -> str:
        if why := _unjudged(run):
            return why
        return "" if run.scores else "no specialised task has a score"

    def check(self, run: Reading) -> list[Finding]:
        assert run.facts.last is not None  # as `missing` has it
        talk = run.facts.last.crosstalk.get(ORDINARY)
        if talk is None:
            return []
        routing: dict[str, str] = {}
        skill: dict[str, str] = {}
        for task, score in run.scores.items():
            aim = self._aim(run, task)
            if task not in talk.routing or aim is None or score.high >= aim:
                continue
            own, able = talk.routing[task], talk.skill[task]
            words = (
                f"{task}: score {percent(score)}, below {aim:.0%}; {own:.0%} of its answers have its "
                f"behaviour{'' if able is None else f', and score {able:.0%}'}."
            )
            routed = share(round(own * score.rows), score.rows)
            if routed.high < self.ROUTED and own < (able or 0.0):
                routing[task] = words
            else:
                skill[task] = words
        found = []
        if routing:
            found.append(
                self._finding(
                    "weak tasks are misrouted: mend boundaries, not data",
                    routing,
                    remedies.bounded(run) or remedies.decorrelated(run),
                )
            )
        if skill:
            found.append(
                self._finding(
                    "weak tasks lack skill: more or better rows, not boundaries",
                    skill,
                    self._more_rows(run, list(skill)),
                )
            )
        return found

    def _aim(self, run: Reading, task: str) -> float | None:
        target: float | None = run.tasks[task]["target"]
        if target is not None:
            return target
        others = [one.value for name, one in run.scores.items() if name != task]
        return statistics.fmean(others) - self.BELOW_MEAN if others else None

    def _more_rows(self, run: Reading, tasks: list[str]) -> list[str]:
        """Twice the weight of these tasks, in the last phase that has all of them."""
        for phase in reversed(run.phases):
            groups, names = run.config["data"]["groups"], run.phases[phase]["tasks"]
            own = {task for name in names for task in groups.get(name, [name])}
            if "all" in own or own >= set(tasks):
                found = [f"balance@{key(phase)}.balance=axes"]
                return found + [f"{key(phase)}.balance.importance.{task}=2" for task in tasks]
        return []

    def _finding(self, title: str, words: dict[str, str], overrides: list[str]) -> Finding:
        return Finding(
            self.name, title, Severity.low, list(words.values()), overrides, list(words), 0.0
        )
