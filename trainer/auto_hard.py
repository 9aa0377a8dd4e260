"""Hard tasks found, not listed: ``tasks: [auto_hard]`` picks them by an evaluation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from data_modules.config import TaskConfig
from data_modules.faults import DataFault, Fault
from data_modules.mixture import AutoHardConfig, HardBy
from trainer.evaluation.results import Evaluation, TaskResult

#: How the figure of a task is called, and how the hardest tasks stand by it.
_NAMES = {
    HardBy.score: ("score", "lowest score"),
    HardBy.gap: ("gap to the target", "largest gap to the target"),
    HardBy.loss_fall: ("relative fall of the loss", "smallest relative fall of the loss"),
}


@dataclass(frozen=True)
class Choice:
    """Which tasks a phase was given, and why.

    Attributes:
        source: path or column of the evaluation that was picked by.
        most: as many as could be picked.
        picked: tasks, the hardest first.
        figures: task -> score, target - score, or (loss before - loss after) / loss before; the hardest
            first, ties by name.
        without: task -> why it has no figure; it is never picked.
        words: all of it in one sentence.
    """

    by: HardBy
    source: str
    most: int
    picked: tuple[str, ...]
    figures: Mapping[str, float]
    without: Mapping[str, str]
    words: str

    def as_json(self) -> dict[str, Any]:
        """Plain values, for ``plan.json``."""
        return {
            "by": self.by.value,
            "from": self.source,
            "most": self.most,
            "picked": list(self.picked),
            "figures": dict(self.figures),
            "without": dict(self.without),
            "words": self.words,
        }


def can_be_judged(task: TaskConfig, by: HardBy) -> bool:
    """Whether an evaluation can have the figure of a task at all."""
    judged = task.metric != "none" or by is HardBy.loss_fall
    return task.is_evaluated and judged and (task.target is not None or by is not HardBy.gap)


def pick(
    phase: str,
    settings: AutoHardConfig,
    candidates: Sequence[str],
    tasks: Mapping[str, TaskConfig],
    after: Evaluation,
    before: Evaluation | None,
    source: str,
    where: str,
) -> Choice:
    """The hardest of the candidates, at most ``settings.most``.

    By ``gap``, tasks that reach their target are left out, unless all do: then the one that is nearest
    to its own is picked.

    Args:
        candidates: names of tasks that may be picked.
        after: the evaluation to pick by.
        before: the evaluation before the last phase; only ``loss_fall`` needs it.
        source: path or column of ``after``.
        where: the same in words.

    Raises:
        DataFault: no candidate has the figure.
    """
    figures: dict[str, float] = {}
    without: dict[str, str] = {}
    for name in sorted(candidates):
        value = _figure(name, settings.by, tasks[name].target, after, before)
        if isinstance(value, str):
            without[name] = value
        else:
            figures[name] = value
    if not figures:
        raise DataFault(
            Fault(
                f"curriculum.phases.{phase}.auto_hard",
                f"{where} has no figure to pick by: {_listed(without)}",
                f"by={settings.by.value} compares the tasks' {_NAMES[settings.by][0]}",
                "Pick by another figure, or name another evaluation.json as evaluation.",
            )
        )
    hardest_first = sorted(figures, key=lambda name: (_easiness(settings.by, figures[name]), name))
    hard = hardest_first
    if settings.by is HardBy.gap:
        hard = [name for name in hardest_first if figures[name] > 0] or hardest_first[:1]
    picked = tuple(hard[: settings.most])
    ranked = {name: figures[name] for name in hardest_first}
    words = _words(settings, picked, ranked, without, where)
    return Choice(settings.by, source, settings.most, picked, ranked, without, words)


def _easiness(by: HardBy, figure: float) -> float:
    return -figure if by is HardBy.gap else figure


def _figure(
    name: str,
    by: HardBy,
    target: float | None,
    after: Evaluation,
    before: Evaluation | None,
) -> float | str:
    """The figure, or why there is none."""
    result = after.tasks.get(name)
    if result is None:
        return "not evaluated"
    if by is HardBy.loss_fall:
        assert before is not None, "a fall is between two evaluations"
        return _loss_fall(result, before.tasks.get(name))
    if by is HardBy.gap and target is None:
        return "no target"
    score = result.score
    if score is None or not math.isfinite(score.value):
        return "no score"
    return score.value if by is HardBy.score else _gap(target, score.value)


def _gap(target: float | None, score: float) -> float:
    assert target is not None
    return target - score


def _loss_fall(after: TaskResult, before: TaskResult | None) -> float | str:
    if before is None:
        return "not evaluated before"
    if not (math.isfinite(after.loss) and math.isfinite(before.loss) and before.loss > 0):
        return "no loss to compare"
    return (before.loss - after.loss) / before.loss


def _words(
    settings: AutoHardConfig,
    picked: tuple[str, ...],
    ranked: Mapping[str, float],
    without: Mapping[str, str],
    where: str,
) -> str:
    by = settings.by
    shown = [
        f"{rank}. {name} {_shown(by, ranked[name])}" for rank, name in enumerate(picked, start=1)
    ]
    words = (
        f"picked by {_NAMES[by][1]} in {where}, {len(picked)} of {len(ranked)} tasks, at most "
        f"{settings.most}: {', '.join(shown)}"
    )
    left = [name for name in ranked if name not in picked]
    if by is HardBy.gap and ranked[picked[0]] <= 0:
        words += "; all tasks reach their targets, this one by least"
    elif left:
        words += f"; next: {left[0]} {_shown(by, ranked[left[0]])}"
    if without:
        words += f"; never picked: {_listed(without)}"
    return words


def _shown(by: HardBy, figure: float) -> str:
    return f"{figure:.1%}" if by is HardBy.loss_fall else f"{figure:.3f}"


def _listed(without: Mapping[str, str]) -> str:
    """Tasks by reason: ``qa, math (no score)``."""
    reasons: dict[str, list[str]] = {}
    for name, reason in without.items():
        reasons.setdefault(reason, []).append(name)
    return ", ".join(f"{', '.join(names)} ({reason})" for reason, names in reasons.items())
