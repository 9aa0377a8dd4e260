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
#: How often every answer is seen beside the request of a task drawn at random.
_STRANGE_REQUESTS = 2
_TREES = 300
#: Characters of an answer's beginning and end whose n-grams are counted.
_HEAD, _TAIL = 280, 120
#: Makes posteriors of the linear model's distances, by cross-validation on ten tasks in two languages.
_SHARPNESS = 3.0
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
        return cls(
            ngrams,
            np.asarray([answer_features(answer) for answer in answers], dtype=np.float32),
            _relations(requests, answers),
        )

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

    A linear support vector machine looks at the character n-grams of the answer, extremely randomised
    trees (Geurts, Ernst and Wehenkel 2006, Machine Learning 63) at its structure and at how it relates
    to the text of its request. Tasks have equal priors. The trees learn from every answer beside its
    own request and beside those of other tasks: an answer is not a task's because its request is.

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
        weights = np.concatenate(
            [
                np.full(len(labels), 1 / (1 if one is own.relation else len(strange)))
                for one in relations
            ]
        )
        targets = np.tile(labels, len(relations))
        weights *= (len(targets) / np.bincount(targets))[targets]
        self._trees = ExtraTreesClassifier(_TREES, min_samples_leaf=2, random_state=number)
        self._trees.fit(
            np.concatenate([np.hstack([own.structure, one]) for one in relations]),
            targets,
            sample_weight=weights,
        )

    @classmethod
    def fit(
        cls, training: Mapping[str, Sequence[Example]], seed: int
    ) -> tuple[AnswerClassifier, dict[str, np.ndarray]]:
        """The classifier of all training answers, and its held-out posteriors of them.

        Args:
            training: task -> right answers; two tasks at least.

        Returns:
            The classifier; task -> float64 [rows, tasks], log posteriors of its rows, each by a
            classifier that was trained without the row.
        """
        tasks = list(training)
        labels = np.concatenate([np.full(len(training[task]), i) for i, task in enumerate(tasks)])
        requests = [one.request for rows in training.values() for one in rows]
        answers = [one.answer for rows in training.values() for one in rows]
        own = _Rows.of(requests, answers)
        held_out = np.zeros((len(labels), len(tasks)))
        draw = generator(seed, "behaviour", "folds")
        fold_of = np.empty(len(labels), dtype=np.int64)
        for label in range(len(tasks)):
            mine = np.flatnonzero(labels == label)
            fold_of[draw.permutation(mine)] = np.arange(len(mine)) % FOLDS

        def trained(rows: np.ndarray) -> AnswerClassifier:
            strange = []
            for _ in range(_STRANGE_REQUESTS):
                partners = _partners(labels[rows], draw)
                strange.append(
                    _relations([requests[rows[p]] for p in partners], [answers[r] for r in rows])
                )
            return cls(tasks, labels[rows], own.take(rows), strange, seed)

        for fold in range(FOLDS):
            out = np.flatnonzero(fold_of == fold)
            held_out[out] = trained(np.flatnonzero(fold_of != fold))._posterior(own.take(out))
        whole = trained(np.arange(len(labels)))
        return whole, {task: held_out[labels == label] for label, task in enumerate(tasks)}

    def log_posterior(self, requests: Sequence[str], answers: Sequence[str]) -> np.ndarray:
        """float64 [n, tasks]: log posteriors up to a constant per row."""
        return self._posterior(_Rows.of(requests, answers))

    def _posterior(self, rows: _Rows) -> np.ndarray:
        distances = self._linear.decision_function(self._tfidf.transform(rows.ngrams))
        if distances.ndim == 1:  # two tasks
            distances = np.stack([-distances, distances], axis=1)
        trees = self._trees.predict_proba(np.hstack([rows.structure, rows.relation]))
        trees = (1 - _DOUBT) * trees + _DOUBT / len(self.tasks)
        return (log_softmax(_SHARPNESS * distances, axis=1) + np.log(trees)) / 2


def _partners(labels: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """For each row the number of another, of a task drawn evenly."""
    of_task = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    tasks = draw.integers(0, len(of_task), len(labels))
    return np.array([draw.choice(of_task[task]) for task in tasks])
