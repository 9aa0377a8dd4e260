"""The phases of a run as far as their tasks are known: listed, picked, or to be picked on the way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_modules.faults import ConfigFault, DataFault, Fault
from data_modules.mixture import HardBy
from data_modules.plan_bounds import Undecided
from data_modules.roles import hard_candidates, is_automatic
from trainer.auto_hard import Choice, can_be_judged, pick
from trainer.config.schema import Config, PhaseConfig
from trainer.curriculum import Phase, place, selected
from trainer.evaluation import results
from trainer.evaluation.results import Evaluation
from trainer.run_directory import INITIAL, RunDirectory
from trainer.start import Start


@dataclass
class Course:
    """The phases of a run, in order.

    Attributes:
        phases: name -> settings, with the picked tasks in place of ``auto_hard``; those of a waiting
            phase name every task that may be picked.
        choices: of phases whose tasks were picked.
        waiting: phases whose tasks are picked when they start -> the columns of the evaluation that
            they are picked by and of the one before it.
    """

    config: Config
    phases: dict[str, PhaseConfig]
    choices: dict[str, Choice] = field(default_factory=dict)
    waiting: dict[str, tuple[str, str]] = field(default_factory=dict)

    def placed(self, steps: Mapping[str, int], steps_before: int) -> list[Phase]:
        """The phases before the first waiting one; see ``curriculum.place``."""
        later = self.later
        known = {name: phase for name, phase in self.phases.items() if name not in later}
        return place(known, dict(steps), steps_before)

    @property
    def later(self) -> list[str]:
        """The first waiting phase and all behind it: their steps are not numbered yet."""
        names = list(self.phases)
        first = next((names.index(name) for name in names if name in self.waiting), len(names))
        return names[first:]

    def undecided(self) -> dict[str, Undecided]:
        """What the data module has to know of the waiting phases."""
        found = {}
        for name in self.waiting:
            settings = self.phases[name].auto_hard
            judged = sum(
                can_be_judged(self.config.data.tasks[task], settings.by)
                for task in hard_candidates(self.config.data)
            )
            # Tasks that reach their targets are no gap.
            fewest = 1 if settings.by is HardBy.gap else min(settings.most, judged)
            found[name] = Undecided(fewest, settings.most)
        return found

    def waiting_words(self, name: str, steps: tuple[int, int]) -> str:
        """What is known of a waiting phase, whose ``steps`` lie between two numbers."""
        settings, (column, _) = self.phases[name].auto_hard, self.waiting[name]
        low, high = steps
        return (
            f"{low if low == high else f'{low} to {high}'} steps, tasks picked at its start from the "
            f"evaluation of phase '{column}', by {settings.by.value}, at most {settings.most}"
        )

    def choose(self, name: str, evaluations: Mapping[str, Evaluation]) -> Choice:
        """The tasks of a waiting phase.

        Args:
            evaluations: by column; those of ``waiting[name]`` are read.

        Raises:
            DataFault: there is no such evaluation, as where only checkpoints of a run are left, or no
                task has the figure that they are picked by.
        """
        column, before = self.waiting[name]
        if column not in evaluations:
            key = f"curriculum.phases.{name}.auto_hard"
            rule = "its tasks are picked by the evaluation of the phase before"
            remedy = f"Keep phases/ beside checkpoints/, or set {key}.evaluation to that evaluation.json."
            raise DataFault(Fault(key, f"no evaluation of phase '{column}'", rule, remedy))
        return _pick(
            self.config,
            name,
            evaluations[column],
            evaluations.get(before),
            column,
            f"the evaluation of phase '{column}'",
        )

    def take(self, name: str, choice: Choice) -> None:
        """Give a phase the tasks that were picked for it."""
        self.waiting.pop(name, None)
        self.choices[name] = choice
        self.phases[name] = replace(self.phases[name], tasks=list(choice.picked))


def listed_course(config: Config) -> Course:
    """The selected phases; those that pick their tasks stand with all that they may pick."""
    return Course(
        config,
        {
            name: replace(phase, tasks=list(hard_candidates(config.data)))
            if is_automatic(phase)
            else phase
            for name, phase in selected(config).items()
        },
    )


def course_of(config: Config, start: Start, run: RunDirectory) -> Course:
    """Pick the tasks of every ``auto_hard`` phase whose evaluation is there already.

    Raises:
        ConfigFault: a phase will have no evaluation to pick by.
        DataFault: an evaluation cannot be read or has no figure to pick by.
    """
    course = listed_course(config)
    config_faults: list[Fault] = []
    data_faults: list[Fault] = []
    names = list(course.phases)
    for index, name in enumerate(names):
        phase = config.curriculum.phases[name]
        if not is_automatic(phase):
            continue
        if phase.auto_hard.evaluation is None and index:
            column = names[index - 1]
            before = names[index - 2] if index > 1 else _first_column(start)
            course.waiting[name] = (column, before)
            config_faults += _no_fall(config, name, before, index, start, run)
            continue
        try:
            course.take(name, _planned_choice(config, name, start, run))
        except ConfigFault as fault:
            config_faults += fault.faults
        except DataFault as fault:
            data_faults += fault.faults
    if config_faults:
        raise ConfigFault(config_faults)
    if data_faults:
        raise DataFault(data_faults)
    return course


def _planned_choice(config: Config, name: str, start: Start, run: RunDirectory) -> Choice:
    settings = config.curriculum.phases[name].auto_hard
    key = f"curriculum.phases.{name}.auto_hard"
    if settings.evaluation is not None:
        path = Path(settings.evaluation)
    elif start.earlier_phases:
        path = _measured(start, run).evaluation(start.earlier_phases[-1])
    elif start.init_from is not None:
        path = Path(start.init_from).parent / "evaluation.json"  # beside a phase's exported model
    else:
        remedy = (
            f"Run it behind another phase, or set {key}.evaluation to the evaluation.json of a run."
        )
        order = list(config.curriculum.phases)
        before = order[: order.index(name)]
        seen = f"no finished phase '{before[-1]}' in {run.root}" if before else "no phase before it"
        rule = "its tasks are picked by the evaluation of the phase before"
        raise ConfigFault(Fault(key, seen, rule, remedy))
    if not path.is_file():
        rule = "its tasks are picked by that evaluation"
        remedy = (
            f"Evaluate the phase before, or set {key}.evaluation to the evaluation.json of a run."
        )
        raise ConfigFault(Fault(key, f"no file {path}", rule, remedy))
    earlier = None
    if settings.by is HardBy.loss_fall:
        before_path = _evaluation_before(path)
        if before_path is None:
            raise ConfigFault(
                Fault(
                    f"{key}.by",
                    f"loss_fall, but there is no evaluation before {path}",
                    "a fall is between the evaluations before and after a phase",
                    f"Set {key}.by=score.",
                )
            )
        earlier = _load(before_path, key)
    return _pick(config, name, _load(path, key), earlier, str(path), str(path))


def _pick(
    config: Config,
    name: str,
    after: Evaluation,
    before: Evaluation | None,
    source: str,
    where: str,
) -> Choice:
    settings = config.curriculum.phases[name].auto_hard
    tasks = config.data.tasks
    return pick(name, settings, hard_candidates(config.data), tasks, after, before, source, where)


def _load(path: Path, key: str) -> Evaluation:
    try:
        return results.load(path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        seen = f"{path} cannot be read as an evaluation ({error!r})"
        rule = "tasks are picked by the evaluation.json of a run"
        raise DataFault(Fault(key, seen, rule, "Evaluate the model again.")) from error


def _evaluation_before(path: Path) -> Path | None:
    """The evaluation before the phase that ``path`` is the evaluation of, if its run has one.

    The order of the phases is that of the run's training steps.
    """
    run = RunDirectory(path.parent.parent.parent)
    if path != run.evaluation(path.parent.name) or not run.metrics.is_file():
        return None
    entries = map(json.loads, run.metrics.read_text(encoding="utf-8").splitlines())
    columns = [INITIAL, *dict.fromkeys(entry["phase"] for entry in entries if "loss" in entry)]
    if path.parent.name not in columns[1:]:
        return None
    before = run.evaluation(columns[columns.index(path.parent.name) - 1])
    return before if before.is_file() else None


def _measured(start: Start, run: RunDirectory) -> RunDirectory:
    """Where the evaluations of earlier phases lie: ``resume=PATH`` takes them over later on."""
    return run if start.resumed is None else start.resumed.source


def _first_column(start: Start) -> str:
    """The column of the weights that the run's first phase starts from."""
    return start.earlier_phases[-1] if start.earlier_phases else INITIAL


def _no_fall(
    config: Config, name: str, before: str, index: int, start: Start, run: RunDirectory
) -> list[Fault]:
    """A fault if ``loss_fall`` will have no evaluation from before the run's first phase."""
    if config.curriculum.phases[name].auto_hard.by is not HardBy.loss_fall or index > 1:
        return []
    if start.earlier_phases and _measured(start, run).evaluation(before).is_file():
        return []
    if config.evaluation.before_training and not start.earlier_phases:
        return []
    return [
        Fault(
            f"curriculum.phases.{name}.auto_hard.by",
            "loss_fall, but the weights that the phase before starts from are not evaluated",
            "a fall is between the evaluations before and after a phase",
            f"Set evaluation.before_training=true, or curriculum.phases.{name}.auto_hard.by=score.",
        )
    ]
