"""Illnesses of the rows: training answers that are no good."""

from __future__ import annotations

import statistics
from typing import Any

from data_modules.answer_format import has_format
from data_modules.config import TaskConfig
from trainer.diagnosis.figures import named, percent
from trainer.diagnosis.finding import Finding, Severity, severity_of
from trainer.diagnosis.reading import Reading
from trainer.diagnosis.rule import Rule
from trainer.evaluation.results import share


class PoorData(Rule):
    """Training rows whose answer the model does not learn, or that break their task's format."""

    name = "poor_data"
    looks_at = (
        "sampled training rows (train_losses.jsonl): their losses, the format of their answers"
    )

    #: A suspect's loss: this many robust standard deviations above its task's median,
    SPREADS = 6.0
    #: and this many nats above the task's loss on rows that were never trained on.
    NATS = 2.0
    #: Certainly this share of a task's sampled rows has to be suspect.
    LEAST = 0.05
    #: From this share of answers without the task's format it is a severe case. Losses alone make none:
    #: rows that are hard have high ones too.
    HIGH = 0.10
    #: Rows named in a finding, and left out by its override.
    NAMED = 5

    def missing(self, run: Reading) -> str:
        if not run.train_rows:
            return "no losses of training rows (evaluation.train_rows)"
        return ""

    def check(self, run: Reading) -> list[Finding]:
        broken: dict[str, list[dict[str, Any]]] = {}
        hard: dict[str, list[dict[str, Any]]] = {}
        rows_of = {task: rows for task, rows in run.train_rows.items() if task in run.special}
        for task, rows in rows_of.items():
            task_format = TaskConfig(format=run.tasks[task]["format"])
            bad = [row for row in rows if not has_format(row["answer"], task_format)]
            if bad and share(len(bad), len(rows)).low > self.LEAST:
                broken[task] = bad
            outlying = self._outlying(rows, run.special[task].loss)
            if outlying and share(len(outlying), len(rows)).low > self.LEAST:
                hard[task] = outlying
        suspects = {
            task: _union(broken.get(task, []), hard.get(task, []))
            for task in rows_of
            if task in broken or task in hard
        }
        if not suspects:
            return []
        evidence = [
            f"{task}: {len(bad)} of {len(rows_of[task])} sampled training answers "
            f"({percent(share(len(bad), len(rows_of[task])))}) do not have the task's format, such as "
            f"{bad[0]['answer'][:60]!r} in {bad[0]['origin']}."
            for task, bad in broken.items()
        ]
        evidence += [
            f"{task}: {len(bad)} of {len(rows_of[task])} sampled training rows have a loss of "
            f"{bad[-1]['loss']:.1f} nats or more; the median is "
            f"{statistics.median(row['loss'] for row in rows_of[task]):.2f}, evaluation rows have "
            f"{run.special[task].loss:.2f}: {named(row['origin'] for row in bad)}."
            for task, bad in hard.items()
        ]
        shares = {task: len(bad) / len(rows_of[task]) for task, bad in suspects.items()}
        worst = max((len(bad) / len(rows_of[task]) for task, bad in broken.items()), default=0.0)
        severity = Severity.high if worst >= self.HIGH else Severity.medium
        return [
            Finding(
                self.name,
                f"poor training rows in {named(suspects)}"
                if broken
                else f"training rows of {named(suspects)} that stay hard: read them",
                severity if broken else Severity.low,
                evidence,
                self._remedy(run, broken, hard),
                list(suspects),
                severity_of(shares, len(run.evaluated))[1],
                explains=("crosstalk", "format_drift", "truncation", "routing_or_skill"),
            )
        ]

    def _outlying(self, rows: list[dict[str, Any]], unseen: float) -> list[dict[str, Any]]:
        """Suspects by their loss, the highest first."""
        losses = [row["loss"] for row in rows]
        middle = statistics.median(losses)
        spread = 1.4826 * statistics.median(abs(loss - middle) for loss in losses)
        limit = max(middle + self.SPREADS * spread, unseen + self.NATS)
        return sorted((row for row in rows if row["loss"] > limit), key=lambda row: -row["loss"])

    def _remedy(
        self,
        run: Reading,
        broken: dict[str, list[dict[str, Any]]],
        hard: dict[str, list[dict[str, Any]]],
    ) -> list[str]:
        """What breaks the format is cleaned out; other suspects by name, or by all rules there are."""
        cleaning = run.config["data"]["cleaning"]
        found = ["data.cleaning.wrong_format=true"] if broken else []
        shares = [len(bad) / len(run.train_rows[task]) for task, bad in broken.items()]
        if shares and max(shares) + 0.1 > cleaning["max_drop_ratio"]:
            found.append(f"data.cleaning.max_drop_ratio={min(1.0, max(shares) + 0.1):.2g}")
        named_rows = [
            row["row_id"]
            for task, bad in hard.items()
            for row in bad[: self.NAMED]
            if row not in broken.get(task, [])
        ]
        if named_rows:
            found.append(f"data.cleaning.drop=[{','.join([*cleaning['drop'], *named_rows])}]")
        return found


def _union(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [*one, *(row for row in other if row not in one)]
