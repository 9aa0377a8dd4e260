"""A light classifier: which task's training answers does an answer resemble?"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix
from scipy.special import log_softmax
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from sklearn.svm import LinearSVC

from data_modules.seeding import generator, seed_of
from trainer.evaluation.behaviour.examples import Example
from trainer.evaluation.behaviour.features import answer_features, relative_features

#: Parts of the cross-validation.
FOLDS = 5
#: A task with fewer answers is not learned.
FEWEST = 2 * FOLDS
#: How often every answer is seen beside the request of a task drawn at random.
_STRANGE_REQUESTS = 2
_TREES = 100
#: Characters of an answer's beginning and end whose n-grams are counted.
_HEAD, _TAIL = 220, 100
#: Makes posteriors of the linear model's distances. This and the next were chosen by cross-validation
#: on ten tasks in two languages.
_SHARPNESS = 2.0
#: What an answer in the manner of the asked task still counts for it when it has nothing to do with
#: its request: 1 would ignore the request.
_UNRELATED = 0.15
#: Share of the trees' posteriors that is spread evenly, so that none of them is zero.
_DOUBT = 1e-3
_DIGIT = re.compile(r"\d")
_NGRAMS = HashingVectorizer(
    analyzer="char",
    ngram_range=(1, 4),
    n_features=2**18,
    alternate_sign=False,
    norm=None,
    lowercase=False,
    dtype=np.float32,
)


@dataclass(frozen=True)
class Posterior:
    """How much answers look like each task's.

    Attributes:
        shown: float64 [n, tasks], log posterior of the task, up to a constant per row.
        kept: float64 [n, tasks], the same for a task that is the asked one: less where the answer
            has nothing to do with its request.
    """

    shown: np.ndarray
    kept: np.ndarray

    def doubt(self, asked: int) -> np.ndarray:
        """float64 [n]: log odds of the likeliest task against the asked one; -inf where that is it."""
        odds = self.shown.max(axis=1) - self.kept[:, asked]
        return np.where(self.shown.argmax(axis=1) == asked, -np.inf, odds)

    def take(self, rows: np.ndarray) -> Posterior:
        """Some rows."""
        return Posterior(self.shown[rows], self.kept[rows])


@dataclass(frozen=True)
class _Rows:
    """Answers as numbers.

    Attributes:
        ngrams: log counts of hashed character n-grams.
        structure, relation: float32 [n, features].
    """

    ngrams: csr_matrix
    structure: np.ndarray
    relation: np.ndarray

    @classmethod
    def of(cls, requests: Sequence[str], answers: Sequence[str]) -> _Rows:
        ngrams = _NGRAMS.transform([_ends(answer) for answer in answers])
        ngrams.data = 1 + np.log(ngrams.data)
        structure = np.asarray([answer_features(answer) for answer in answers], dtype=np.float32)
        return cls(ngrams, structure, _relations(requests, answers))

    def take(self, rows: np.ndarray) -> _Rows:
        return _Rows(self.ngrams[rows], self.structure[rows], self.relation[rows])


def _relations(requests: Sequence[str], answers: Sequence[str]) -> np.ndarray:
    pairs = zip(requests, answers, strict=True)
    return np.asarray([relative_features(*pair) for pair in pairs], dtype=np.float32)


def _ends(answer: str) -> str:
    text = answer.strip()
    if len(text) > _HEAD + _TAIL:
        text = f"{text[:_HEAD]} … {text[-_TAIL:]}"
    return _DIGIT.sub("0", text)


class AnswerClassifier:
    """Two models of the training answers, their log posteriors averaged.

    A linear support vector machine looks at the character n-grams of the answer; extremely randomised
    trees (Geurts, Ernst and Wehenkel 2006, Machine Learning 63) look at its structure and at how it
    relates to the text of its request. Tasks have equal priors.

    The trees learn every answer twice: beside its own request, and beside requests of tasks drawn at
    random. In the second case only the answer tells its task, so that no answer is a task's because
    the request is; and the two cases tell whether an answer has to do with its request at all.

    Attributes:
        tasks: columns of the posteriors.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        labels: np.ndarray,
        own: _Rows,
        strange: Sequence[np.ndarray],
        seed: int,
    ) -> None:
        self.tasks = tuple(tasks)
        self._tfidf = TfidfTransformer().fit(own.ngrams)
        number = seed_of(seed, "behaviour", "model") % 2**32
        self._linear = LinearSVC(C=0.3, class_weight="balanced", random_state=number)
        self._linear.fit(self._tfidf.transform(own.ngrams), labels)
        relations = [own.relation, *strange]
        targets = np.concatenate([labels, *[labels + len(tasks) for _ in strange]])
        self._trees = ExtraTreesClassifier(
            _TREES, min_samples_leaf=2, class_weight="balanced", random_state=number
        )
        self._trees.fit(
            np.concatenate([np.hstack([own.structure, one]) for one in relations]), targets
        )

    @classmethod
    def fit(
        cls, training: Mapping[str, Sequence[Example]], seed: int
    ) -> tuple[AnswerClassifier, dict[str, Posterior]]:
        """The classifier of all training answers, and its held-out posteriors of them.

        Args:
            training: task -> at least :data:`FEWEST` right answers; two tasks at least.

        Returns:
            The classifier; task -> posteriors of its rows, each by a classifier that was trained
            without the row.
        """
        tasks = list(training)
        labels = np.concatenate([np.full(len(training[task]), i) for i, task in enumerate(tasks)])
        requests = [one.request for rows in training.values() for one in rows]
        answers = [one.answer for rows in training.values() for one in rows]
        draw = generator(seed, "behaviour", "folds")
        fold_of = np.empty(len(labels), dtype=np.int64)
        for label in range(len(tasks)):
            mine = np.flatnonzero(labels == label)
            fold_of[draw.permutation(mine)] = np.arange(len(mine)) % FOLDS
        own = _Rows.of(requests, answers)
        strange = [
            _relations([requests[row] for row in _strangers(labels, fold_of, draw)], answers)
            for _ in range(_STRANGE_REQUESTS)
        ]

        def trained(rows: np.ndarray) -> AnswerClassifier:
            return cls(tasks, labels[rows], own.take(rows), [one[rows] for one in strange], seed)

        shown, kept = np.zeros((2, len(labels), len(tasks)))
        for fold in range(FOLDS):
            out = np.flatnonzero(fold_of == fold)
            found = trained(np.flatnonzero(fold_of != fold))._posterior(own.take(out))
            shown[out], kept[out] = found.shown, found.kept
        held_out = Posterior(shown, kept)
        whole = trained(np.arange(len(labels)))
        return whole, {
            task: held_out.take(np.flatnonzero(labels == label)) for label, task in enumerate(tasks)
        }

    def posterior(self, requests: Sequence[str], answers: Sequence[str]) -> Posterior:
        """Of answers to requests."""
        return self._posterior(_Rows.of(requests, answers))

    def _posterior(self, rows: _Rows) -> Posterior:
        distances = self._linear.decision_function(self._tfidf.transform(rows.ngrams))
        if distances.ndim == 1:  # two tasks
            distances = np.stack([-distances, distances], axis=1) / 2
        by_text = log_softmax(_SHARPNESS * distances, axis=1)
        found = self._trees.predict_proba(np.hstack([rows.structure, rows.relation]))
        related, unrelated = np.split(found, 2, axis=1)
        least = _DOUBT / len(self.tasks)
        return Posterior(
            (by_text + np.log((1 - _DOUBT) * (related + unrelated) + least)) / 2,
            (by_text + np.log((1 - _DOUBT) * (related + _UNRELATED * unrelated) + least)) / 2,
        )


def _strangers(labels: np.ndarray, fold_of: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """int64 [n]: for each row another of its fold, of a task drawn evenly."""
    tasks = draw.integers(0, labels.max() + 1, len(labels))
    places = draw.random(len(labels))
    chosen = np.empty(len(labels), dtype=np.int64)
    for fold in range(FOLDS):
        for task in range(labels.max() + 1):
            for_rows = np.flatnonzero((fold_of == fold) & (tasks == task))
            pool = np.flatnonzero((fold_of == fold) & (labels == task))
            chosen[for_rows] = pool[(places[for_rows] * len(pool)).astype(np.int64)]
    return chosen
