"""Steps that the guard found bad: ``faults.jsonl``."""

from __future__ import annotations

from collections import Counter
from typing import Any

from trainer.diagnosis import remedies
from trainer.diagnosis.figures import named
from trainer.diagnosis.finding import Finding, Severity
from trainer.diagnosis.reading import Reading
from trainer.diagnosis.rule import Rule
from trainer.guard.guard import Action, Kind


class BadSteps(Rule):
    """Steps that were not finite or whose loss jumped: left out, or trained on all the same."""

    name = "bad_steps"
    looks_at = "steps that the guard found bad, and the rows behind them (faults.jsonl)"

    #: From this share of a phase's steps it is no accident.
    MEDIUM, HIGH = 0.002, 0.02
    #: Rows named in the override that leaves them out.
    NAMED = 5

    def missing(self, run: Reading) -> str:
        return "" if any(run.steps.values()) else "no step is in metrics.jsonl"

    def check(self, run: Reading) -> list[Finding]:
        found = []
        for phase in run.phases:
            # What a run met again after it was killed or rolled back is one step.
            bad = {one["step"]: one for one in run.facts.faults if one["phase"] == phase}
            if bad:
                found.append(self._finding(run, phase, list(bad.values())))
        return found

    def _finding(self, run: Reading, phase: str, bad: list[dict[str, Any]]) -> Finding:
        share = len(bad) / run.steps_planned[phase]
        severity = (
            Severity.high
            if share >= self.HIGH
            else Severity.medium
            if share >= self.MEDIUM
            else Severity.low
        )
        kinds = Counter(f"{one['kind']} ({one['action']})" for one in bad)
        culprits = {
            row["row_id"] or row["row_key"]: row for one in bad for row in self._culprits(one)
        }
        evidence = [
            f"{len(bad)} of {run.steps_planned[phase]:,} steps: "
            f"{named(f'{count} {kind}' for kind, count in kinds.most_common())}; first in step "
            f"{bad[0]['step']}, where {bad[0]['why']}."
        ]
        if culprits:
            where = named(f"{row['task']} {row['origin']}" for row in culprits.values())
            evidence.append(f"Rows without a finite loss of their own: {where}.")
        return Finding(
            self.name,
            f"{len(bad)} bad steps in phase '{phase}'",
            severity,
            evidence,
            self._remedy(run, phase, bad, [row for row in culprits.values() if row["row_id"]]),
            sorted({row["task"] for row in culprits.values()}),
            0.0,
        )

    def _culprits(self, bad: dict[str, Any]) -> list[dict[str, Any]]:
        """Rows that did it by themselves."""
        return [row for row in bad["rows"] if isinstance(row["loss"], str)]

    def _remedy(
        self, run: Reading, phase: str, bad: list[dict[str, Any]], culprits: list[dict[str, Any]]
    ) -> list[str]:
        """The rows left out by name where they are known; else, and for jumps, smaller steps."""
        if culprits:
            drop = run.config["data"]["cleaning"]["drop"]
            names = [row["row_id"] for row in culprits[: self.NAMED]]
            return [f"data.cleaning.drop=[{','.join([*drop, *names])}]"]
        only_warned = all(one["action"] == Action.warn for one in bad)
        if only_warned and all(one["kind"] == Kind.spike for one in bad):
            return ["faults.spike=skip"]
        return remedies.gentler(run, phase, run.phases[phase]["lr"] / 3)
