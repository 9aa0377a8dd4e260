"""Illnesses that gradients show before scores do."""

from __future__ import annotations

from itertools import combinations

from trainer.diagnosis import remedies
from trainer.diagnosis.figures import mean_of, named
from trainer.diagnosis.finding import Finding, Severity
from trainer.diagnosis.reading import Reading
from trainer.diagnosis.remedies import key
from trainer.diagnosis.rule import Rule
from trainer.evaluation.results import Figure


class GradientConflict(Rule):
    """Pairs of tasks whose gradients point against each other."""

    name = "gradient_conflict"
    looks_at = "task x task gradient cosines (interference.jsonl)"

    #: The mean cosine of a pair over the second half of the measurements is certainly below this.
    COSINE = -0.1
    #: Measurements that takes.
    LEAST = 3
    #: A gradient whose two halves agree less than this is mostly noise, and says nothing.
    SELF = 0.2

    def missing(self, run: Reading) -> str:
        if len(self._late(run)) < self.LEAST:
            return "too few measurements of gradient conflict (interference.every_steps)"
        return ""

    def check(self, run: Reading) -> list[Finding]:
        cosines: dict[tuple[str, str], list[float]] = {}
        for entry in self._late(run):
            clear = [
                number
                for number, value in enumerate(entry["self_cosine"])
                if value >= self.SELF and not run.tasks[entry["tasks"][number]]["general"]
            ]
            for i, j in combinations(clear, 2):
                pair = entry["tasks"][i], entry["tasks"][j]
                cosines.setdefault(pair, []).append(entry["cosine"][i][j])
        found: dict[tuple[str, str], Figure] = {
            pair: mean_of(values) for pair, values in cosines.items() if len(values) >= self.LEAST
        }
        against = {pair: one for pair, one in found.items() if one.high < self.COSINE}
        if not against:
            return []
        worst = sorted(against, key=lambda pair: against[pair].value)
        parts = [
            f"{one} against {other} {against[one, other].value:+.2f} "
            f"({against[one, other].low:+.2f} to {against[one, other].high:+.2f})"
            for one, other in worst
        ]
        size = run.config["global_batch_size"]
        return [
            Finding(
                self.name,
                f"gradients of {worst[0][0]} and {worst[0][1]} conflict",
                Severity.medium,
                [
                    f"Mean cosine over the second half of the measurements: {named(parts)}.",
                    "A step for one raises the other's loss. Tuned proportions usually do as well as "
                    "changes of the gradients.",
                ],
                remedies.bounded(run) or self._together(run, size),
                list(dict.fromkeys(task for pair in worst for task in pair)),
                0.0,
            )
        ]

    def _together(self, run: Reading, size: int) -> list[str]:
        """The tasks in the same steps: a mixed order, or larger steps where it is mixed."""
        apart = [phase for phase, one in run.phases.items() if one["order"] != "mixed"]
        return [f"{key(phase)}.order=mixed" for phase in apart] or [f"global_batch_size={2 * size}"]

    def _late(self, run: Reading) -> list[dict]:
        entries = run.facts.interference
        return entries[len(entries) // 2 :]
