"""A search: trials one after another, or a few at a time, each where the earlier ones point to."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from optuna.trial import Trial

from data_modules.faults import ConfigFault, DataFault, Fault
from data_modules.masking import masked_arguments
from launch.sweeps import jobs
from launch.sweeps.composed import Composed, compose_all
from launch.sweeps.grid import axis_records, refuse_other, show, told
from launch.sweeps.here import Ended, Here, log_file
from launch.sweeps.members import Member, axis_titles, member, name_of
from launch.sweeps.nodes import (
    RUNS,
    Node,
    Places,
    common,
    selecting,
    stem_nodes,
    without_phases,
)
from launch.sweeps.stems import Stem, beginning, can_fork_behind, digest
from launch.sweeps.study import Search, default_values
from launch.sweeps.syntax import Asked
from trainer import exit_codes
from trainer.config.schema import ClusterKind, Config
from trainer.config.validate_sweep import directions
from trainer.curriculum import selected
from trainer.report.objectives import objectives_of
from trainer.sweep_record import FILE, RunRecord, SweepRecord, read_sweep

#: Trials one behind the other that cannot be composed: more than values that do not go together.
_MOST_REFUSED = 3
#: Codes that would come again: the trial is a failed one.
_FOR_GOOD = (exit_codes.USER_FAULT, exit_codes.TRAINING_FAULT)


@dataclass
class _Under:
    """A trial that trains.

    Attributes:
        parts: what is trained for it, one after another in one run directory: the phases up to each end,
            where it may be left there; else the whole.
        ends: number of phases behind each part.
    """

    trial: Trial
    record: RunRecord
    parts: list[Node]
    ends: list[int]

    @property
    def part(self) -> Node:
        return self.parts[0]


def run_search(asked: Asked, overrides: Sequence[str], settings: Config, places: Places) -> int:
    """Begin a search, or go on with it.

    Returns:
        0 if it has come to its end; 1 if a run failed; 98 or 99 if it was asked to leave.

    Raises:
        ConfigFault: the ends of the space cannot be trained, or the folder is of another search.
    """
    default = member("default", asked, {})
    composed = _probed(asked, default, places)
    stems = _stems(composed, default, places, settings.sweep.share)
    if settings.sweep.pruning:
        _refuse_pruning(composed[default.name].config)
    goals = directions(settings.sweep)
    sweep = SweepRecord(
        places.root.name,
        settings.sweep.kind.value,
        masked_arguments(list(overrides)),
        _settings(asked, settings, places, composed[default.name].config, goals),
        axis_records(asked.axes),
        goals,
        [one.record() for one in stems],
    )
    if (places.root / FILE).is_file():
        earlier = read_sweep(places.root)
        refuse_other(earlier, sweep, places, is_same=True)
        sweep.runs = earlier.runs
        for one in sweep.stems:
            found = earlier.find(one.folder)
            one.job = None if found is None else found.job
    if settings.cluster.dry_run:
        show(stems)
        names = ", ".join(one.key for one in asked.axes)
        print(f"{settings.sweep.trials} trials over {names}; the first has the default values")
        return 0
    sweep.write(places.root)
    values = default_values(asked.axes, composed[default.name])
    search = Search(places.root, asked.axes, settings.sweep, list(goals.values()), values)
    return _Driver(asked, settings, places, sweep, search, stems).run()


def _probed(asked: Asked, default: Member, places: Places) -> dict[str, Composed]:
    """The default and the ends of every axis, composed and checked before anything is trained."""
    titles = axis_titles(asked.axes)
    probes = [default] + [
        member(name_of({titles[axis.key]: text}), asked, {axis.key: text})
        for axis in asked.axes
        for text in axis.ends()
    ]
    return compose_all(
        (one.name, [*common(one.overrides), *places.overrides(f"{RUNS}/{one.name}", None)])
        for one in probes
    )


def _stems(
    composed: dict[str, Composed], default: Member, places: Places, share: bool
) -> list[Node]:
    """The one stem of all trials: the phases that no axis touches, if there are any."""
    configs = [one.config for one in composed.values()]
    names = list(selected(configs[0]))
    count = 0
    while share and all(can_fork_behind(one, count + 1) for one in configs):
        if len({beginning(one, count + 1) for one in configs}) > 1:
            break
        count += 1
    if not count:
        return []
    stem = Stem(f"{'-'.join(names[:count])}-1", tuple(names[:count]), None, default.name)
    return stem_nodes([stem], {default.name: common(default.overrides)}, places)


def _refuse_pruning(config: Config) -> None:
    names = list(selected(config))
    for count in range(1, len(names)):
        if not can_fork_behind(config, count):
            seen = f"true, with phases {', '.join(names)}"
            rule = (
                "trials are trained phase by phase: phases are files of conf/phase, and the first ones "
                "train on all tasks that later ones do"
            )
            raise ConfigFault(Fault("sweep.pruning", seen, rule, "Set it to false."))


def _settings(
    asked: Asked, settings: Config, places: Places, default: Config, goals: dict[str, str]
) -> dict[str, object]:
    """What may not change while a search goes on; trials may be added."""
    sweep = settings.sweep
    return {
        "share": sweep.share,
        "resume": places.resume,
        "default": digest(default),
        "axes": [
            [one.key, one.kind.value, list(one.choices), one.low, one.high, one.step, one.log]
            for one in asked.axes
        ],
        "objectives": goals,
        "seed": sweep.seed,
        "startup_trials": sweep.startup_trials,
        "pruning": sweep.pruning,
        "pruning_startup": sweep.pruning_startup,
    }


class _Driver:
    """Keeps trials under way until there are enough."""

    def __init__(
        self,
        asked: Asked,
        settings: Config,
        places: Places,
        sweep: SweepRecord,
        search: Search,
        stems: list[Node],
    ) -> None:
        self.asked, self.sweep, self.search = asked, sweep, search
        self.settings, self.places, self.stems = settings.sweep, places, stems
        self.here = Here(self.settings.at_once)
        is_slurm = settings.cluster.kind is ClusterKind.slurm
        queue = jobs.Jobs(sweep, self.settings.at_once, self.settings.poll_s)
        self.runner: Here | jobs.Jobs = queue if is_slurm else self.here
        self.under: dict[str, _Under] = {}
        self.failed = False
        self.refused = 0

    def run(self) -> int:
        """All that is left."""
        try:
            with self.here.passing_on():
                if not self._train_stems():
                    return self._leave() if self._is_leaving else 1
                waiting = self.search.under_way
                while True:
                    while self.runner.has_room and not self._is_leaving:
                        if waiting:
                            self._begin(waiting.pop(0))
                        elif self._may_draw:
                            self._begin(self.search.next())
                        else:
                            break
                    if self.runner.is_idle:
                        break
                    for ended in self.runner.wait(lambda: self._is_leaving):
                        self._take(ended)
        finally:
            self.sweep.write(self.places.root)
        return self._leave() if self._is_leaving else self._outcome()

    @property
    def _may_draw(self) -> bool:
        is_refused = self.refused >= _MOST_REFUSED
        return self.search.drawn < self.settings.trials and not is_refused

    @property
    def _is_leaving(self) -> bool:
        return self.here.stopped_by is not None

    def _leave(self) -> int:
        assert self.here.stopped_by is not None, "somebody asked"
        name = signal.Signals(self.here.stopped_by).name
        print(f"left because of {name}; the same command goes on", flush=True)
        return self.here.exit_code

    def _train_stems(self) -> bool:
        """Train the phases that all trials share; whether they are there."""
        for node in self.stems:
            if node.is_finished:
                continue
            print(f"{node.folder}: starts", flush=True)
            self._start(node, self.sweep.find(node.folder))
            for ended in self.runner.wait(lambda: self._is_leaving):
                self._told(ended)
        return all(one.is_finished for one in self.stems)

    def _start(self, node: Node, record: RunRecord | None) -> None:
        job = self.runner.start(node)
        if record is not None and job is not None:
            record.job = job
        self.sweep.write(self.places.root)

    def _told(self, ended: Ended) -> bool:
        """Say what became of a run; whether it is finished."""
        if isinstance(self.runner, Here):
            done = ended.code == 0 and ended.node.is_finished
            log = str(log_file(ended.node))
        else:
            done = jobs.comes_to_its_end(ended.node)
            log = jobs.log_of(ended.node, self.sweep.find(ended.node.folder))
        if not done or not ended.node.folder.startswith(RUNS):
            print(told(ended, log, done), flush=True)
        return done

    def _begin(self, trial: Trial) -> None:
        """Start a trial, or go on with one that was interrupted."""
        values = self.search.values_of(trial)
        is_default = self.search.is_default(trial)
        name = f"trial-{trial.number:03d}" + ("-default" if is_default else "")
        folder = f"{RUNS}/{name}"
        record = self.sweep.find(folder)
        is_new = record is None
        one = member(name, self.asked, {} if is_default else values)
        try:
            parts, ends = self._parts(one, folder)
        except ConfigFault as fault:
            parts, ends = [], []
            self.refused += 1
            print(f"{folder}: FAILED before training: {fault}", flush=True)
        if record is None:
            made = digest(parts[-1].config) if parts else ""
            overrides = list(parts[-1].overrides) if parts else list(one.overrides)
            parent = parts[-1].parent if parts else None
            record = RunRecord(name, folder, values, overrides, made, parent)
            record.is_default = is_default
            self.sweep.runs.append(record)
        record.state = "running"
        if not parts:
            self._fail(trial, record)
            return
        self.refused = 0
        words = ", ".join(f"{self._title(key)}={text}" for key, text in values.items())
        print(f"{folder}: {'starts' if is_new else 'goes on'}: {words or 'default'}", flush=True)
        under = _Under(trial, record, parts, ends)
        known = self.search.frozen(trial).intermediate_values
        record.phase_ends = list(known.values())
        while under.ends[0] in known and len(under.parts) > 1:
            del under.parts[0], under.ends[0]
        if known and trial.should_prune():
            self._prune(under)
            return
        self.under[folder] = under
        self._start(under.part, record)

    def _title(self, key: str) -> str:
        return next(one.title for one in self.sweep.axes if one.key == key)

    def _parts(self, one: Member, folder: str) -> tuple[list[Node], list[int]]:
        parent = self.stems[-1].folder if self.stems else None
        place = self.places.overrides(folder, parent)
        # composed without what it goes on from, which may have become another file meanwhile
        bare = self.places.overrides(folder, None)
        own = common(one.overrides)
        whole = compose_all([(one.name, [*own, *bare])])[one.name].config
        names = list(selected(whole))
        node = Node(self.places.root, folder, one.values, (*own, *place), whole, parent)
        first = len(self.stems[-1].phases) if self.stems else 0
        if not self.settings.pruning:
            return [node], [len(names)]
        parts = []
        for count in range(first + 1, len(names)):
            some = [*without_phases(own), selecting(names[:count])]
            config = compose_all([(one.name, [*some, *bare])])[one.name].config
            parts.append(replace(node, overrides=(*some, *place), config=config))
        return [*parts, node], [*range(first + 1, len(names)), len(names)]

    def _take(self, ended: Ended) -> None:
        """What became of a part of a trial."""
        under = self.under.pop(ended.node.folder)
        if not self._told(ended):
            if ended.code in _FOR_GOOD:
                self._fail(under.trial, under.record)
            elif not self._is_leaving and ended.code not in (
                exit_codes.STOPPED,
                exit_codes.REQUEUE,
            ):
                under.record.state, self.failed = "failed", True
            self.sweep.write(self.places.root)
            return
        values = _measured(ended.node.run, list(self.sweep.objectives))
        if values is None:
            print(f"{ended.node.folder}: FAILED: its evaluation has no objective", flush=True)
            self._fail(under.trial, under.record)
            return
        shown = ", ".join(
            f"{name} {value:.4f}" for name, value in zip(self.sweep.objectives, values, strict=True)
        )
        if len(under.parts) == 1:
            self.search.complete(under.trial, values)
            under.record.state, under.record.objectives = "complete", values
            print(f"{ended.node.folder}: done, {shown}", flush=True)
            self.sweep.write(self.places.root)
            return
        under.trial.report(values[0], under.ends[0])
        under.record.phase_ends.append(values[0])
        if under.trial.should_prune():
            self._prune(under)
            return
        print(f"{ended.node.folder}: behind {under.ends[0]} phases, {shown}", flush=True)
        del under.parts[0], under.ends[0]
        self.under[ended.node.folder] = under
        if not self._is_leaving:
            self._start(under.part, under.record)

    def _prune(self, under: _Under) -> None:
        self.search.prune(under.trial)
        under.record.state = "pruned"
        value = under.record.phase_ends[-1]
        print(f"{under.record.folder}: left at {value:.4f}, worse than half of the trials there")
        self.sweep.write(self.places.root)

    def _fail(self, trial: Trial, record: RunRecord) -> None:
        self.search.fail(trial)
        record.state, self.failed = "failed", True
        self.sweep.write(self.places.root)

    def _outcome(self) -> int:
        states = [one.state for one in self.sweep.runs]
        counts = [(states.count(one), one) for one in ("complete", "pruned", "failed", "running")]
        print("trials: " + ", ".join(f"{count} {word}" for count, word in counts if count))
        return 1 if self.failed or "running" in states else 0


def _measured(run: Path, objectives: Sequence[str]) -> list[float] | None:
    try:
        return objectives_of(run, objectives)
    except DataFault:
        return None
