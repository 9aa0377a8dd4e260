"""Answers that say more than was asked for."""

from __future__ import annotations

import math
from typing import Any

from data_modules.answer_format import has_format
from data_modules.config import TaskConfig
from trainer.diagnosis import remedies
from trainer.diagnosis.figures import difference, mean_of, named, percent
from trainer.diagnosis.finding import Finding, severity_of
from trainer.diagnosis.reading import Reading
from trainer.diagnosis.rule import Rule
from trainer.diagnosis.rules.answers import SYMPTOMS, TAUGHT, unanswered
from trainer.evaluation.results import ORDINARY, share

#: Cleaning stops a run that would lose more than this share of a task's rows (``max_drop_ratio``).
_CLEANED_AT_MOST = 0.5


class OverExplaining(Rule):
    """Answers with talk around what was asked for."""

    name = "over_explaining"
    looks_at = "right answers inside longer ones, lengths, raw against processed score"

    #: Certainly this share of the answers holds the right one and more.
    WRAPPED = 0.05
    #: Answers are certainly this much longer than right ones, as a mean of ratios.
    LONGER = 1.5
    #: A right answer of fewer characters may stand in a longer one by chance.
    LEAST_CHARACTERS = 3

    def missing(self, run: Reading) -> str:
        return unanswered(run)

    def check(self, run: Reading) -> list[Finding]:
        shares: dict[str, float] = {}
        taught: dict[str, float] = {}
        evidence = []
        for task, result in run.special.items():
            rows = [row for row in run.predictions(task) if row["gold"].strip()]
            if len(rows) < 2:
                continue
            words = []
            task_format = TaskConfig(format=run.tasks[task]["format"])
            wrapped = share(sum(self._is_wrapped(row, task_format) for row in rows), len(rows))
            if wrapped.low > self.WRAPPED:
                words.append(f"{percent(wrapped)} of the answers hold the right one and more")
                shares[task] = wrapped.value
            ratio = mean_of([self._log_ratio(row) for row in rows])
            if math.exp(ratio.low) > self.LONGER:
                words.append(f"answers are {math.exp(ratio.value):.1f} times as long as right ones")
                shares.setdefault(task, 0.0)
            one = result.sets.get(ORDINARY)
            if one is not None and result.metric in one.raw and result.metric in one.processed:
                raw, processed = one.raw[result.metric], one.processed[result.metric]
                if difference(processed, raw).low > 0:
                    words.append(
                        f"the score is {percent(raw)} as generated, {percent(processed)} after "
                        "post-processing"
                    )
                    shares[task] = max(shares.get(task, 0.0), processed.value - raw.value)
            if task not in shares:
                continue
            example = max(rows, key=lambda row: self._rank(row, task_format))
            words.append(f"such as {_short(example['answer'])!r} for {_short(example['gold'])!r}")
            lessons = self._taught(run, task)
            if lessons is not None and lessons >= TAUGHT:
                taught[task] = lessons
                words.append(f"{lessons:.0%} of the sampled training answers break the format too")
            evidence.append(f"{task}: {'; '.join(words)}.")
        if not shares:
            return []
        severity, score = severity_of(shares, len(run.evaluated))
        return [
            Finding(
                self.name,
                f"{named(shares)}: more is said than was asked for"
                f"{', as in training answers' if taught else ''}",
                severity,
                evidence,
                self._remedy(run, shares, taught),
                list(shares),
                score,
                explains=SYMPTOMS,
                rooted=bool(taught),
            )
        ]

    def _rank(self, row: dict[str, Any], task_format: TaskConfig) -> tuple[bool, float]:
        return self._is_wrapped(row, task_format), self._log_ratio(row)

    def _is_wrapped(self, row: dict[str, Any], task_format: TaskConfig) -> bool:
        """The right answer and more; an answer in its task's format is a wrong one, and no talk."""
        if task_format.format and has_format(row["answer"], task_format):
            return False
        gold, answer = (" ".join(row[name].split()) for name in ("gold", "answer"))
        return (
            len(gold) >= self.LEAST_CHARACTERS and gold != answer and f" {gold} " in f" {answer} "
        )

    def _log_ratio(self, row: dict[str, Any]) -> float:
        if not row["finished"]:
            return 0.0  # an answer without end says nothing about talk
        return math.log((1 + len(row["answer"].strip())) / (1 + len(row["gold"].strip())))

    def _taught(self, run: Reading, task: str) -> float | None:
        """Share of the sampled training answers without their task's format; None where it has none."""
        expression = run.tasks[task]["format"]
        rows = run.train_rows.get(task, [])
        if not expression or not rows:
            return None
        task_format = TaskConfig(format=expression)
        return sum(not has_format(row["answer"], task_format) for row in rows) / len(rows)

    def _remedy(
        self, run: Reading, shares: dict[str, float], taught: dict[str, float]
    ) -> list[str]:
        """Clean what teaches it where enough rows are left; cut it off, where the task has a format."""
        cleanable = {task: one for task, one in taught.items() if one <= _CLEANED_AT_MOST}
        if cleanable and len(cleanable) == len(taught):
            return ["data.cleaning.wrong_format=true"]
        found = [
            f"data.tasks.{task}.postprocess=[strip,unify,first_format]"
            for task in shares
            if run.tasks[task]["format"] and "first_format" not in run.tasks[task]["postprocess"]
        ]
        return [*remedies.bounded(run), *found]


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."
