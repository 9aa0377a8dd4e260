"""Which task's behaviour an answer shows: by the format that its task declares, else by a classifier."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from data_modules.cleaning.quality import repeated_share
from data_modules.config import TaskConfig
from trainer.evaluation.behaviour.examples import Example
from trainer.evaluation.behaviour.formats import Formats
from trainer.evaluation.results import MIXED, NONE

if TYPE_CHECKING:
    from trainer.evaluation.behaviour.classifier import AnswerClassifier, Posterior

#: Largest share of right answers that the classifier may take for another task's, in cross-validation
#: and on the mean of the tasks.
FALSE_ALARMS = 0.0125
#: From this share of repeated n-grams on, an answer goes round in circles and shows no task.
_CIRCLES = 0.8


@dataclass(frozen=True)
class GoldReport:
    """How well right training answers are attributed, those of the classifier by cross-validation.

    Attributes:
        by_format, by_classifier: the tasks that go by each.
        rows: task -> answers judged.
        attributed: task -> share judged as the task's own.
        leaked: task -> share judged as another task's: what crosstalk is lessened by.
        confusion: task -> behaviour -> share.
        likeliest: task -> share whose likeliest task is the own one, the benefit of the doubt aside;
            empty without a classifier.
        bound: log odds that another task needs against the asked one.
    """

    by_format: list[str]
    by_classifier: list[str]
    rows: dict[str, int]
    attributed: dict[str, float]
    leaked: dict[str, float]
    confusion: dict[str, dict[str, float]]
    likeliest: dict[str, float]
    bound: float


class BehaviourJudge:
    """Says which task's behaviour an answer shows, knowing which one was asked for.

    An answer that has a declared format shows its task. Any other answer goes to a classifier over the
    tasks with training answers. The asked task keeps the benefit of the doubt: another task is found
    only where its posterior odds against the asked one exceed a bound, the least that keeps false
    alarms on right answers within :data:`FALSE_ALARMS` in cross-validation. A task with a format is
    never found by the classifier: such an answer is malformed and shows ``none``, as do blank answers
    and those that only repeat themselves. ``mixed`` is found by formats alone.

    Attributes:
        tasks: those that can be found: with a format or enough training answers.
        gold_report: own error.
    """

    _fitted: dict[str, BehaviourJudge] = {}  # noqa: RUF012 the process's cache

    def __init__(
        self,
        tasks: Mapping[str, TaskConfig],
        training: Mapping[str, Sequence[Example]],
        seed: int,
    ) -> None:
        self._formats = Formats(tasks)
        # Late: scikit-learn takes seconds to import, which training's first step need not wait for.
        from trainer.evaluation.behaviour.classifier import FEWEST, AnswerClassifier

        known = {task: training[task] for task in tasks if training.get(task)}
        learned = {task: rows for task, rows in known.items() if len(rows) >= FEWEST}
        self.tasks = tuple(task for task in tasks if tasks[task].format or task in learned)
        self._classifier: AnswerClassifier | None = None
        self._bound = 0.0
        free = [task for task in self.tasks if not tasks[task].format]
        held_out: dict[str, Posterior] = {}
        if free and len(learned) > 1:
            self._classifier, held_out = AnswerClassifier.fit(learned, seed)
            self._bound = self._least_bound({task: held_out[task] for task in free})
        judged = {task: known[task] for task in self.tasks if task in known}
        self.gold_report = self._report(judged, held_out, free)

    @classmethod
    def fit(
        cls,
        tasks: Mapping[str, TaskConfig],
        training: Mapping[str, Sequence[Example]],
        seed: int,
    ) -> BehaviourJudge:
        """The judge of some tasks; the last one is kept, by fingerprint, for the next evaluation.

        Raises:
            ConfigFault: a format that is no regular expression.
        """
        content = [
            seed,
            {name: task.format for name, task in tasks.items()},
            {name: [asdict(one) for one in rows] for name, rows in training.items()},
        ]
        key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
        if key not in cls._fitted:
            cls._fitted = {key: cls(tasks, training, seed)}
        return cls._fitted[key]

    def behaviours(self, asked: str, requests: Sequence[str], answers: Sequence[str]) -> list[str]:
        """The behaviour of each answer to a task's requests: a task's name, ``mixed`` or ``none``.

        Args:
            asked: one of :attr:`tasks`.
            requests: first user turns as the user typed them, without tag, constraint or cue.
            answers: as generated.
        """
        assert asked in self.tasks, f"{asked} has neither a format nor training answers"
        found = [self._formats.behaviour_of(answer, asked) for answer in answers]
        rest = [row for row, behaviour in enumerate(found) if behaviour is None]
        if rest and self._classifier is not None:
            posterior = self._classifier.posterior(
                [requests[row] for row in rest], [answers[row] for row in rest]
            )
            decided = self._decide(asked, posterior)
        else:
            decided = [NONE if asked in self._formats.tasks else asked] * len(rest)
        for row, behaviour in zip(rest, decided, strict=True):
            found[row] = NONE if _is_empty(answers[row]) else behaviour
        return [behaviour or NONE for behaviour in found]

    def _decide(self, asked: str, posterior: Posterior) -> list[str]:
        assert self._classifier is not None
        names = self._classifier.tasks
        shown = [names[column] for column in posterior.shown.argmax(axis=1)]
        if asked in names:
            kept = posterior.doubt(names.index(asked)) <= self._bound
            shown = [asked if own else name for own, name in zip(kept, shown, strict=True)]
        return [NONE if name in self._formats.tasks else name for name in shown]

    def _least_bound(self, held_out: Mapping[str, Posterior]) -> float:
        """The bound on log odds that keeps false alarms down; one for all tasks.

        Every task counts the same, as in a crosstalk rate.
        """
        assert self._classifier is not None
        names = self._classifier.tasks
        doubts = [one.doubt(names.index(task)) for task, one in held_out.items()]
        weights = np.concatenate([np.full(len(one), 1 / len(one) / len(doubts)) for one in doubts])
        values = np.concatenate(doubts)
        order = np.argsort(-values, kind="stable")
        # alarms so far if the bound lay just under each value
        alarms = np.cumsum(weights[order])
        first_too_many = int(np.searchsorted(alarms, FALSE_ALARMS, side="right"))
        return float(max(0.0, values[order][min(first_too_many, len(values) - 1)]))

    def _report(
        self,
        known: Mapping[str, Sequence[Example]],
        held_out: Mapping[str, Posterior],
        free: Sequence[str],
    ) -> GoldReport:
        confusion: dict[str, dict[str, float]] = {}
        likeliest: dict[str, float] = {}
        for task, rows in known.items():
            found = [self._formats.behaviour_of(one.answer, task) for one in rows]
            if task in held_out:
                decided = self._decide(task, held_out[task])
                best = held_out[task].shown.argmax(axis=1)
                likeliest[task] = float(np.mean(best == list(held_out).index(task)))
            else:
                decided = [NONE if task in self._formats.tasks else task] * len(rows)
            shown = Counter(
                one or (NONE if _is_empty(row.answer) else other)
                for one, other, row in zip(found, decided, rows, strict=True)
            )
            confusion[task] = {name: count / len(rows) for name, count in sorted(shown.items())}
        return GoldReport(
            by_format=list(self._formats.tasks),
            by_classifier=list(free),
            rows={task: len(rows) for task, rows in known.items()},
            attributed={task: shares.get(task, 0.0) for task, shares in confusion.items()},
            leaked={
                task: sum(
                    share for name, share in shares.items() if name not in (task, MIXED, NONE)
                )
                for task, shares in confusion.items()
            },
            confusion=confusion,
            likeliest=likeliest,
            bound=self._bound,
        )


def _is_empty(answer: str) -> bool:
    """Nothing in it, or nothing but the same over and over."""
    return not any(map(str.isalnum, answer)) or repeated_share(answer) >= _CIRCLES
