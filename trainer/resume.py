"""Which checkpoint a run continues from, and whether it may."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from data_modules.faults import ConfigFault, DataFault, Fault
from trainer import distributed
from trainer.checkpoint.folder import (
    COMPLETE,
    STATE,
    Damaged,
    Marker,
    check_content,
    check_sizes,
    checkpoints,
    read_marker,
)
from trainer.checkpoint.trainer_state import TrainerState, read_state
from trainer.config.schema import Config
from trainer.config.strict_merge import to_plain, to_yaml
from trainer.curriculum import Phase, selected
from trainer.distributed import Ranks
from trainer.run_directory import RunDirectory

AUTO, NEVER = "auto", "never"

#: Compares what is on disk with what was written, beyond the sizes of files.
Check = Callable[[Path, Marker], None]

# What shapes training wherever it stands. The data and the boundary shape it through the plan, whose
# fingerprint is compared; phases are compared one by one as far as they were trained. All the rest
# (ranks, ZeRO, micro-batches, evaluation, logging, where the base model lies) may change.
_SHAPING = (
    "seed",
    "init_from",
    "global_batch_size",
    "precision",
    "adaptation",
    "optimizer",
    "model.init",
    "model.architecture",
)
_PLANNING = ("data", "boundary", "limits.steps_per_phase")  # shown where a plan differs
# How a run was started, and not what it made.
_NOT_MAKING = ("resume", "logging", "cluster", "estimate", "output_dir", "sweep")
_ABSENT = "(absent)"


@dataclass(frozen=True)
class Found:
    """A complete checkpoint."""

    folder: Path
    marker: Marker
    state: TrainerState


@dataclass(frozen=True)
class Resumed(Found):
    """A checkpoint that a run continues from.

    Attributes:
        earlier_phases: phases it has behind it that the command does not select.
        notes: newer checkpoints that could not be used, in words.
    """

    earlier_phases: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def global_step(self) -> int:
        return self.state.global_step

    @property
    def source(self) -> RunDirectory:
        """The run directory that the checkpoint lies in."""
        return RunDirectory(self.folder.parent.parent)

    @property
    def finished(self) -> list[str]:
        """The phases of its lineage that are trained, evaluated and exported, in training order."""
        return [
            phase.name
            for phase in self.state.phases
            if self.global_step >= phase.last_step and self.source.finished(phase.name) is not None
        ]

    @property
    def steps_before(self) -> int:
        """Steps of the phases that the command does not select."""
        phases, count = self.state.phases, len(self.earlier_phases)
        # The first one's may not begin at 1: it may have started from weights alone.
        return phases[count].first_step - 1 if count < len(phases) else phases[-1].last_step

    @property
    def words(self) -> str:
        """One sentence for the log and the model card."""
        phase = self.state.phases[-1]
        done = self.state.global_step - phase.first_step + 1
        return (
            f"Resumes behind step {self.global_step} ({done} of {phase.last_step - phase.first_step + 1} "
            f"steps of phase '{phase.name}') from {self.folder}."
        )


def newest_before(run: RunDirectory, global_step: int, check: Check) -> Found | None:
    """The newest usable checkpoint of a run before a step; collective if ``check`` is."""
    for folder in checkpoints(run.checkpoints):
        try:
            marker = read_marker(folder)
            if marker.global_step < global_step:
                check_sizes(folder, marker)
                check(folder, marker)
                return Found(folder, marker, read_state(folder))
        except Damaged:
            continue
    return None


def verified_together(ranks: Ranks) -> Check:
    """Compares checksums, each rank those of its share of the files; collective."""

    def check(folder: Path, marker: Marker) -> None:
        damage = ""
        names = sorted(marker.files)[ranks.rank :: ranks.world_size]
        try:
            check_content(folder, marker, names)
        except Damaged as error:
            damage = str(error)
        found = [one for _, one in distributed.gather(ranks, damage) if one]
        if found:
            raise Damaged("; ".join(found))

    return check


def find_resumed(config: Config, run: RunDirectory, check: Check | None = None) -> Resumed | None:
    """The newest checkpoint that the run may continue from; None starts it afresh.

    Args:
        check: reads what is on disk; None looks at names and sizes only.

    Raises:
        ConfigFault: what has been trained differs from the configuration, or ``resume`` names no
            checkpoint.
        DataFault: there are checkpoints, but all are damaged.
    """
    if config.resume == NEVER:
        return None
    named = None if config.resume == AUTO else Path(config.resume)
    root = run.checkpoints
    notes: list[str] = []
    for folder, only_same in _candidates(root, named):
        try:
            marker = read_marker(folder)
            check_sizes(folder, marker)
            state = read_state(folder)
            told, marked = _point(state), _point(marker)
            if told != marked:
                raise Damaged(f"{STATE} is of {told}, {COMPLETE} of {marked}")
            if only_same and state.settings.get("resume") != config.resume:
                continue
            if check is not None:
                check(folder, marker)
        except Damaged as damage:
            notes.append(f"{folder} cannot be used: {damage}")
            continue
        earlier = _earlier_phases(config, state)
        _refuse(config, state, folder)
        return Resumed(folder, marker, state, earlier, tuple(notes))
    if named is not None:
        raise ConfigFault(
            Fault(
                "resume",
                "; ".join(notes) or f"{named} has no checkpoint",
                "it names a complete checkpoint, or a run directory that has one",
                f"Name another one, or set resume={AUTO} or resume={NEVER}.",
            )
        )
    if notes:
        raise DataFault(
            Fault(
                str(root),
                "; ".join(notes),
                "a run continues from a complete, undamaged checkpoint",
                f"Set resume={NEVER} to train anew (it replaces this run), or another run_name.",
            )
        )
    return None


def _candidates(root: Path, named: Path | None) -> list[tuple[Path, bool]]:
    """Checkpoints to look at, in turn; the second tells that one counts only if this command made it.

    Whoever starts the same command again, with the same ``resume=PATH``, goes on from where it got.
    """
    own = checkpoints(root)
    if named is None:
        return [(folder, False) for folder in own]
    found = checkpoints(named / "checkpoints") or checkpoints(named) or [named]
    if found[0].resolve().parent == root.resolve():
        found = [root / one.resolve().name for one in found]  # however the path is written
    return [*((folder, True) for folder in own), *((folder, False) for folder in found)]


def _point(one: TrainerState | Marker) -> str:
    return f"step {one.global_step}{', a phase end' if one.phase_end else ''}"


def _earlier_phases(config: Config, state: TrainerState) -> tuple[str, ...]:
    """The phases that were trained before the first selected one."""
    first = next(iter(selected(config)))
    names = [phase.name for phase in state.phases]
    return tuple(names[: names.index(first)] if first in names else names)


def _refuse(config: Config, state: TrainerState, folder: Path) -> None:
    """Raise if what was trained is not what the configuration asks for, as far as it tells."""
    faults, plain = list(_order_faults(config, state)), to_plain(config)
    for key in _SHAPING:
        faults += _differences(key, _at(state.settings, key), _at(plain, key))
    phases = plain["curriculum"]["phases"]
    for trained in state.phases:
        now = phases.get(trained.name)
        key = f"curriculum.phases.{trained.name}"
        if now is None:
            seen, rule = "no such phase", f"it was trained in steps up to {trained.last_step}"
            faults.append(Fault(key, seen, rule))
        else:
            faults += _differences(key, trained.settings, now)
    if faults:
        raise ConfigFault(_with_remedy(faults, folder))


def _order_faults(config: Config, state: TrainerState) -> Iterator[Fault]:
    """The phases must follow one another as they did."""
    chosen = list(selected(config))
    trained = [phase.name for phase in state.phases]
    earlier = trained
    if chosen[0] in trained:
        earlier = trained[: trained.index(chosen[0])]
        # Phases behind the selected ones are of no concern: the selected ones are done.
        fits = all(
            one == other for one, other in zip(trained[len(earlier) :], chosen, strict=False)
        )
    else:
        order = list(config.curriculum.phases)
        before = order[: order.index(chosen[0])] if chosen[0] in order else []
        done = state.global_step == state.phases[-1].last_step
        fits = state.phases[-1].name in before[-1:] and done
    if not fits or set(earlier) & set(chosen):
        yield Fault(
            "+phase",
            ", ".join(chosen),
            f"this run has trained {', '.join(trained)} up to step {state.global_step}",
        )


def made_by(config: Config, run: RunDirectory) -> bool:
    """Whether what lies in a run directory was made by this configuration, as its ``config.yaml`` tells."""
    made, now = made_config(run), yaml.safe_load(to_yaml(config))
    return made is not None and all(
        made.get(key) == now[key] for key in now if key not in _NOT_MAKING
    )


def made_config(run: RunDirectory) -> dict[str, Any] | None:
    """What ``config.yaml`` of a run directory says; None where there is none, or it is damaged."""
    try:
        made = yaml.safe_load((run.root / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return None
    return made if isinstance(made, dict) else None


def plan_faults(
    config: Config, resumed: Resumed, phases: list[Phase], fingerprints: Mapping[str, str]
) -> list[Fault]:
    """Where the plan differs from the one that was trained.

    Args:
        phases: the planned ones.
        fingerprints: phase -> fingerprint of its plan now.
    """
    faults: list[Fault] = []
    now = {phase.name: phase for phase in phases}
    for trained in resumed.state.phases:
        phase = now.get(trained.name)
        if phase is None:
            continue
        steps = (trained.first_step, trained.last_step)
        if (phase.first_step, phase.last_step) != steps:
            seen = f"steps {phase.first_step} to {phase.last_step}"
            faults.append(
                Fault(
                    f"curriculum.phases.{trained.name}",
                    seen,
                    f"it was trained as steps {steps[0]} to {steps[1]}",
                )
            )
        elif fingerprints[trained.name] != trained.fingerprint:
            seen = f"its plan is {fingerprints[trained.name][:12]}"
            rule = f"it was trained by plan {trained.fingerprint[:12]}, other rows or another order"
            faults.append(Fault(f"curriculum.phases.{trained.name}", seen, rule))
    if not faults:
        return []
    plain = to_plain(config)
    found = [
        fault
        for key in _PLANNING
        for fault in _differences(key, _at(resumed.state.settings, key), _at(plain, key))
        if not fault.where.startswith(("data.cache_dir", "data.workers"))
    ]
    if not found:
        seen, rule = (
            "the same settings",
            "so the data files or the tokenizer are not what they were",
        )
        found = [Fault("data", seen, rule)]
    return _with_remedy([*faults, *found], resumed.folder)


def model_faults(
    resumed: Resumed, model: dict[str, Any], parameters: dict[str, Any]
) -> list[Fault]:
    """Where the model differs from the one that was trained.

    Args:
        model: its configuration now.
        parameters: trained parameter -> shape.
    """
    state = resumed.state
    faults = list(_differences("model", state.model, model))
    before, now = state.parameters, {name: list(shape) for name, shape in parameters.items()}
    different = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if different:
        name = different[0]
        faults.append(
            Fault(
                f"model: {name}",
                f"shape {now.get(name, _ABSENT)}",
                f"the checkpoint has {before.get(name, _ABSENT)}; {len(different)} trained parameters "
                "differ",
            )
        )
    return _with_remedy(faults, resumed.folder) if faults else []


def frozen_faults(resumed: Resumed, checksum: int) -> list[Fault]:
    """A fault if the weights that are not trained are others than before."""
    if checksum == resumed.state.frozen:
        return []
    seen = "the weights that are not trained are not those of the checkpoint"
    rule = "adapters continue on the base model that they were trained on"
    return _with_remedy([Fault("model.path", seen, rule)], resumed.folder)


def _with_remedy(faults: list[Fault], folder: Path) -> list[Fault]:
    last = faults[-1]
    remedy = (
        f"{folder} cannot be continued with this. Undo the change; or train under another run_name; or "
        f"set resume={NEVER}, which replaces the run; or resume=CHECKPOINT of a step before the change."
    )
    return [*faults[:-1], Fault(last.where, last.seen, last.rule, remedy)]


def _at(tree: Mapping[str, Any], key: str) -> Any:
    found: Any = tree
    for name in key.split("."):
        found = found.get(name, _ABSENT) if isinstance(found, Mapping) else _ABSENT
    return found


def _differences(key: str, before: Any, now: Any) -> Iterator[Fault]:
    """A fault for every value that is not what it was."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for name in {**before, **now}:
            yield from _differences(
                f"{key}.{name}", before.get(name, _ABSENT), now.get(name, _ABSENT)
            )
    elif before != now:
        yield Fault(key, str(now), f"it was {before} in what has been trained")
