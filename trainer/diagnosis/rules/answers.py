"""Illnesses that the answers themselves show: lists, questions back, refusals, cut ends, broken formats."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import ClassVar

from data_modules.cleaning.behaviours import behaviours_of
from data_modules.config import Behaviour
from trainer.diagnosis import remedies
from trainer.diagnosis.figures import difference, named, percent
from trainer.diagnosis.finding import Finding, Severity, severity_of
from trainer.diagnosis.reading import Reading
from trainer.diagnosis.rule import Rule
from trainer.evaluation.results import ORDINARY, Figure, share

#: Share of the sampled training answers from which they are to blame.
TAUGHT = 0.05
#: What the manner of a task's answers explains.
SYMPTOMS = ("poor_data", "crosstalk", "format_drift", "truncation", "routing_or_skill")


def unanswered(run: Reading) -> str:
    """Why a run has no answers to look at; "" where it has."""
    if not run.evaluated:
        return "no evaluation at a phase end"
    return "" if run.has_predictions else "no answers were generated (evaluation.generate)"


class UnwantedBehaviour(Rule):
    """Answers that do something which the right answers do not."""

    behaviour: ClassVar[Behaviour]
    title: ClassVar[str]
    #: "show a list", as in "12 % of the answers show a list".
    does: ClassVar[str]

    #: Shares of answers and of right answers have to differ by certainly this much.
    LEAST = 0.05

    def missing(self, run: Reading) -> str:
        return unanswered(run)

    def check(self, run: Reading) -> list[Finding]:
        excess: dict[str, float] = {}
        taught: dict[str, float] = {}
        evidence = []
        for task in run.special:
            rows = run.predictions(task)
            if not rows:
                continue
            shown, gold = (self._share(row[name] for row in rows) for name in ("answer", "gold"))
            more = difference(shown, gold)
            if more.low <= self.LEAST:
                continue
            excess[task] = more.value
            words = (
                f"{task}: {percent(shown)} of the answers {self.does}, of the right answers "
                f"{gold.value:.1%}"
            )
            sample = [row["answer"] for row in run.train_rows.get(task, ())]
            if sample:
                lessons = self._share(sample)
                words += f", of {len(sample)} sampled training answers {lessons.value:.1%}"
                if lessons.value - gold.value >= TAUGHT:
                    taught[task] = lessons.value
            evidence.append(f"{words}.")
        if not excess:
            return []
        severity, score = severity_of(excess, len(run.evaluated))
        return [
            Finding(
                self.name,
                f"{named(excess)}: {self.title}{', as training answers do' if taught else ''}",
                severity,
                evidence,
                self._clean(run, taught) if taught else self._hold(run),
                list(excess),
                score,
                explains=SYMPTOMS if taught else ("format_drift",),
                rooted=bool(taught),
            )
        ]

    def _share(self, answers: Iterable[str]) -> Figure:
        shown = [self.behaviour in behaviours_of(answer) for answer in answers]
        return share(sum(shown), len(shown))

    def _clean(self, run: Reading, taught: dict[str, float]) -> list[str]:
        """Rows that teach it are left out."""
        found = ["data.cleaning.foreign_behaviour=true"]
        for task in taught:
            forbidden = list(dict.fromkeys([*run.tasks[task]["forbidden"], self.behaviour.value]))
            found.append(f"data.tasks.{task}.forbidden=[{','.join(forbidden)}]")
        return [*found, *_room(run, taught.values())]

    def _hold(self, run: Reading) -> list[str]:
        """The task's own constraint in its prompts, or else other tasks' answers as negatives."""
        return remedies.bounded(run) or remedies.pushed_away(run)


class OverListing(UnwantedBehaviour):
    """Lists where the right answers have none."""

    name = "over_listing"
    looks_at = "answers and right answers that are lists"
    behaviour = Behaviour.list
    title = "answers turn into lists"
    does = "show a list"


class AskingBack(UnwantedBehaviour):
    """Questions instead of answers."""

    name = "asking_back"
    looks_at = "answers and right answers that end in a question"
    behaviour = Behaviour.question
    title = "the model asks back"
    does = "end in a question"


class Refusing(UnwantedBehaviour):
    """Answers that decline where the right ones do not."""

    name = "refusing"
    looks_at = "answers and right answers that decline"
    behaviour = Behaviour.refusal
    title = "the model declines"
    does = "decline"


class Truncation(Rule):
    """Answers that are cut before they could be as long as the right ones."""

    name = "truncation"
    looks_at = "answers cut at max_new_tokens, and how long right ones are"

    #: Certainly this share of the answers is cut while shorter than the right one.
    LEAST = 0.05
    #: Right answers up to so many times as long as what was said: with less said, room is not what lacks.
    MOST = 8

    def missing(self, run: Reading) -> str:
        return unanswered(run)

    def check(self, run: Reading) -> list[Finding]:
        cut: dict[str, float] = {}
        evidence = []
        overrides = []
        for task in run.special:
            rows = run.predictions(task)
            if not rows:
                continue
            short = [
                row
                for row in rows
                if not row["finished"]
                and len(row["answer"].strip())
                < len(row["gold"].strip())
                <= self.MOST * len(row["answer"].strip())
            ]
            figure = share(len(short), len(rows))
            if figure.low <= self.LEAST:
                continue
            budget = run.tasks[task]["max_new_tokens"]
            cut[task] = figure.value
            need = max(len(row["gold"].strip()) / len(row["answer"].strip()) for row in short)
            overrides.append(
                f"data.tasks.{task}.max_new_tokens={2 ** math.ceil(math.log2(budget * need))}"
            )
            evidence.append(
                f"{task}: {percent(figure)} of the answers are cut at {budget} tokens and shorter than the "
                "right one; they count as wrong."
            )
        if not cut:
            return []
        severity, score = severity_of(cut, len(run.evaluated))
        return [
            Finding(
                self.name,
                f"{named(cut)}: answers are cut too early",
                severity,
                evidence,
                overrides,
                list(cut),
                score,
                explains=("format_drift", "routing_or_skill", "crosstalk"),
            )
        ]


class FormatDrift(Rule):
    """Answers, as generated, that do not keep their task's output format, or no longer."""

    name = "format_drift"
    looks_at = "share of answers in format, as generated, over the phases"

    #: What the share should reach.
    CONSISTENT = 0.95
    #: A severe case where it certainly does not reach this.
    HIGH = 0.7

    def missing(self, run: Reading) -> str:
        if why := unanswered(run):
            return why
        if not any(self._declares(run, task) for task in run.special):
            return "no task declares a format or unification rules"
        return ""

    def check(self, run: Reading) -> list[Finding]:
        lost: dict[str, float] = {}
        evidence = []
        severe = falling = False
        for task, result in run.special.items():
            if ORDINARY not in result.sets or not self._declares(run, task):
                continue
            now = result.sets[ORDINARY].in_format
            before = {
                column: run.evaluations[column].tasks[task].sets[ORDINARY].in_format
                for column in list(run.evaluations)[:-1]
                if column in run.phases and ORDINARY in run.evaluations[column].tasks[task].sets
            }
            best = max(before, key=lambda column: before[column].value, default=None)
            fell = best is not None and difference(before[best], now).low > 0
            if now.high >= self.CONSISTENT and not fell:
                continue
            lost[task] = 1 - now.value
            severe |= now.high < self.HIGH
            falling |= fell
            earlier = f", {percent(before[best])} after '{best}'" if fell and best else ""
            evidence.append(f"{task}: {percent(now)} of the answers are in format{earlier}.")
        if not lost:
            return []
        return [
            Finding(
                self.name,
                f"{named(lost)}: answers {'lose' if falling else 'miss'} their format",
                Severity.high if severe else Severity.medium,
                evidence,
                self._remedy(run, list(lost)),
                list(lost),
                severity_of(lost, len(run.evaluated))[1],
                explains=("routing_or_skill",),
            )
        ]

    def _declares(self, run: Reading, task: str) -> bool:
        return bool(run.tasks[task]["format"] or run.tasks[task]["unify"])

    def _remedy(self, run: Reading, tasks: list[str]) -> list[str]:
        """Boundaries; one format in training; what cuts the format out of an answer."""
        cleaning = run.config["data"]["cleaning"]
        found = remedies.bounded(run)
        found += [
            f"data.cleaning.{one}=true" for one in ("unify", "wrong_format") if not cleaning[one]
        ]
        return found + [
            f"data.tasks.{task}.postprocess=[strip,unify,first_format]"
            for task in tasks
            if run.tasks[task]["format"] and "first_format" not in run.tasks[task]["postprocess"]
        ]


def _room(run: Reading, shares: Iterable[float]) -> list[str]:
    """Cleaning may leave out more of a task's rows, where it will have to."""
    limit = run.config["data"]["cleaning"]["max_drop_ratio"]
    need = max(shares, default=0.0) + 0.1
    return [f"data.cleaning.max_drop_ratio={min(1.0, need):.2g}"] if need > limit else []
