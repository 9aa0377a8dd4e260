"""Optuna's side of a search: what is tried next, what became of it, kept in a journal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from hydra.core.override_parser.overrides_parser import OverridesParser
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from launch.sweeps.composed import Composed
from launch.sweeps.syntax import Axis, Kind
from trainer.config.schema import SweepConfig
from trainer.config.strict_merge import to_plain

JOURNAL = "study.journal"
_DEFAULT = "default"


class Search:
    """A study that outlives its process.

    What is drawn for a trial depends on the seed, the trial's number and what earlier ones gave, and not on
    how often the search was interrupted.

    Args:
        default: values of the configuration that the search begins with, as far as axes can take them; it
            is trial 0.
    """

    def __init__(
        self,
        root: Path,
        axes: Sequence[Axis],
        settings: SweepConfig,
        directions: Sequence[str],
        default: Mapping[str, Any],
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.axes, self.settings = axes, settings
        self.study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(root / JOURNAL))),
            study_name=root.name,
            directions=[StudyDirection[one.upper()] for one in directions],
            pruner=optuna.pruners.MedianPruner(n_startup_trials=settings.pruning_startup),
            load_if_exists=True,
        )
        if not self.study.get_trials(deepcopy=False):
            self.study.enqueue_trial(dict(default), user_attrs={_DEFAULT: sorted(default)})

    @property
    def under_way(self) -> list[Trial]:
        """Trials that an earlier start of the search has left unfinished."""
        return [
            Trial(self.study, one._trial_id)
            for one in self.study.get_trials(deepcopy=False)
            if one.state is TrialState.RUNNING
        ]

    @property
    def drawn(self) -> int:
        """Trials that have been begun."""
        trials = self.study.get_trials(deepcopy=False)
        return sum(one.state is not TrialState.WAITING for one in trials)

    def next(self) -> Trial:
        """Begin a trial."""
        # a sampler of its own: one that goes on would draw again what it drew before an interruption
        self.study.sampler = TPESampler(
            seed=(self.settings.seed * 1_000_003 + self.drawn) % 2**32,
            n_startup_trials=self.settings.startup_trials,
            constant_liar=self.settings.at_once > 1,
        )
        return self.study.ask()

    def values_of(self, trial: Trial) -> dict[str, str]:
        """Axis -> value of a trial, as a command line has it; of the default, where an axis can take it."""
        told = trial.user_attrs.get(_DEFAULT)
        axes = [one for one in self.axes if told is None or one.key in told]
        return {one.key: one.text(_suggested(trial, one)) for one in axes}

    @staticmethod
    def is_default(trial: Trial) -> bool:
        return _DEFAULT in trial.user_attrs

    def frozen(self, trial: Trial) -> FrozenTrial:
        """What the journal holds of a trial."""
        return self.study.get_trials(deepcopy=False)[trial.number]

    def complete(self, trial: Trial, values: Sequence[float]) -> None:
        self.study.tell(trial, list(values))

    def fail(self, trial: Trial) -> None:
        self.study.tell(trial, state=TrialState.FAIL)

    def prune(self, trial: Trial) -> None:
        self.study.tell(trial, state=TrialState.PRUNED)


def _suggested(trial: Trial, axis: Axis) -> Any:
    if axis.kind is Kind.choice:
        return trial.suggest_categorical(axis.key, axis.choices)
    if axis.kind is Kind.integer:
        low, high, step = int(axis.low), int(axis.high), int(axis.step or 1)
        return trial.suggest_int(axis.key, low, high, step=step, log=axis.log)
    return trial.suggest_float(axis.key, axis.low, axis.high, step=axis.step, log=axis.log)


def default_values(axes: Sequence[Axis], composed: Composed) -> dict[str, Any]:
    """Axis -> the value of this configuration, for axes that can take it."""
    plain = to_plain(composed.config)
    found: dict[str, Any] = {}
    for axis in axes:
        value = composed.choices.get(axis.key, _at(plain, axis.key))
        if axis.kind is Kind.choice:
            fits = [one for one in axis.choices if _parsed(one) == value]
            if fits:
                found[axis.key] = fits[0]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            number = int(value) if axis.kind is Kind.integer else float(value)
            if number == value and _distribution(axis)._contains(number):
                found[axis.key] = number
    return found


def _distribution(axis: Axis) -> FloatDistribution | IntDistribution | CategoricalDistribution:
    if axis.kind is Kind.integer:
        low, high, step = int(axis.low), int(axis.high), int(axis.step or 1)
        return IntDistribution(low, high, axis.log, step)
    return FloatDistribution(axis.low, axis.high, axis.log, axis.step)


def _at(tree: Mapping[str, Any], key: str) -> Any:
    found: Any = tree
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _parsed(text: str) -> Any:
    value = OverridesParser.create().parse_override(f"x={text}").value()
    return getattr(value, "text", value)
