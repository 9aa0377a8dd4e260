"""A grid: every combination of values, and nothing twice."""

from __future__ import annotations

import signal
from collections.abc import Sequence

from data_modules.faults import ConfigFault, Fault
from data_modules.masking import masked_arguments
from launch.sweeps import jobs
from launch.sweeps.here import Ended, Here, log_file
from launch.sweeps.members import axis_titles, grid
from launch.sweeps.nodes import Node, Places, plan
from launch.sweeps.syntax import Asked, Axis
from trainer import exit_codes
from trainer.config.schema import ClusterKind, Config
from trainer.config.validate_sweep import directions
from trainer.sweep_record import FILE, AxisRecord, SweepRecord, read_sweep

_WORDS = {
    exit_codes.STOPPED: "stopped, all work is saved",
    exit_codes.REQUEUE: "preempted or out of time, all work is saved",
    exit_codes.USER_FAULT: "FAILED before training",
    exit_codes.TRAINING_FAULT: "FAILED",
    exit_codes.LOST_RANK: "FAILED",
}


def run_grid(asked: Asked, overrides: Sequence[str], settings: Config, places: Places) -> int:
    """Train what is missing of a grid.

    Returns:
        0 if all runs are finished or handed over; 1 if any failed.

    Raises:
        ConfigFault: a run cannot be trained, or the folder is of another sweep.
    """
    nodes, _ = plan(grid(asked), places, settings.sweep.share)
    sweep = SweepRecord(
        places.root.name,
        settings.sweep.kind.value,
        masked_arguments(list(overrides)),
        {"share": settings.sweep.share, "resume": places.resume},
        axis_records(asked.axes),
        directions(settings.sweep),
        [one.record() for one in nodes if one.phases],
        [one.record() for one in nodes if not one.phases],
    )
    _go_on(sweep, places)
    if settings.cluster.dry_run:
        show(nodes)
        return 0
    sweep.write(places.root)
    done = [one for one in nodes if one.is_finished]
    for one in done:
        print(f"{one.folder}: finished before, kept", flush=True)
    if settings.cluster.kind is ClusterKind.slurm:
        return _as_jobs(sweep, nodes, settings)
    return _here(nodes, settings.sweep.at_once)


def axis_records(axes: Sequence[Axis]) -> list[AxisRecord]:
    """What ``sweep.json`` says of the axes."""
    titles = axis_titles(axes)
    return [
        AxisRecord(
            one.key, titles[one.key], one.kind.value, list(one.choices), one.low, one.high, one.log
        )
        for one in axes
    ]


def _go_on(sweep: SweepRecord, places: Places) -> None:
    """Take over what an earlier start noted; refuse another sweep's folder."""
    if not (places.root / FILE).is_file():
        return
    earlier = read_sweep(places.root)
    refuse_other(
        earlier,
        sweep,
        places,
        {one.folder: one.made_by for one in earlier.runs}
        == {one.folder: one.made_by for one in sweep.runs},
    )
    for one in (*sweep.stems, *sweep.runs):
        found = earlier.find(one.folder)
        one.job = None if found is None else found.job


def refuse_other(earlier: SweepRecord, now: SweepRecord, places: Places, is_same: bool) -> None:
    """Raise if the folder holds another sweep.

    Raises:
        ConfigFault: saying what it was started with.
    """
    if is_same and earlier.kind == now.kind and earlier.settings == now.settings:
        return
    before, after = (
        [
            word
            for word in one.asked
            if word not in ("cluster.dry_run=true", "cluster.dry_run=false")
        ]
        for one in (earlier, now)
    )
    if before == after:
        seen = (
            f"{places.root} was started with the same overrides, but they composed other settings"
        )
        rule = (
            "a sweep goes on with the same settings; files in conf/ or polyphase have changed since"
        )
    else:
        seen = f"{places.root} was started with: {' '.join(before)}"
        rule = f"a sweep goes on with the same settings; now they are: {' '.join(after)}"
    remedy = "Name another folder with sweep.directory=... or run_name=...; or remove that one."
    raise ConfigFault(Fault("sweep.directory", seen, rule, remedy))


def show(nodes: Sequence[Node]) -> None:
    """What would be trained, in order."""
    for one in nodes:
        behind = f", behind {one.parent}" if one.parent else ""
        state = "finished" if one.is_finished else "to be trained"
        print(
            f"{one.folder}: {state}{behind}\n    {' '.join(masked_arguments(list(one.overrides)))}"
        )


def told(ended: Ended, log: str, is_finished: bool) -> str:
    """One line about a run that is no longer trained."""
    if is_finished:
        return f"{ended.node.folder}: done, {ended.seconds:.0f} s"
    # a process that is asked before its loop begins ends by the signal itself: there is nothing to save
    words = _WORDS.get(ended.code or -1, "left before it trained" if ended.was_asked else "FAILED")
    code = "" if ended.code is None else f" with exit code {ended.code}"
    return f"{ended.node.folder}: {words}{code}, see {log}"


def _here(nodes: Sequence[Node], at_once: int) -> int:
    """Train what is missing on this host, stems before what goes on from them."""
    here = Here(at_once)
    finished = {one.folder for one in nodes if one.is_finished}
    needed = wanted(nodes, finished)
    pending = [one for one in nodes if one.folder in needed]
    lost: set[str] = set()
    with here.passing_on():
        while (pending and here.stopped_by is None) or not here.is_idle:
            for one in list(pending):
                if one.parent in lost:
                    print(f"{one.folder}: FAILED, as {one.parent} did", flush=True)
                    lost.add(one.folder)
                    pending.remove(one)
                elif (
                    (one.parent is None or one.parent in finished)
                    and here.has_room
                    and here.stopped_by is None
                ):
                    pending.remove(one)
                    print(f"{one.folder}: starts", flush=True)
                    here.start(one)
            for ended in here.wait():
                done = ended.code == 0 and ended.node.is_finished
                (finished if done else lost).add(ended.node.folder)
                print(told(ended, str(log_file(ended.node)), done), flush=True)
    return _outcome(nodes, here)


def _outcome(nodes: Sequence[Node], here: Here) -> int:
    runs = [one for one in nodes if not one.phases]
    count = sum(one.is_finished for one in runs)
    print(f"{count} of {len(runs)} runs are finished", flush=True)
    if here.stopped_by is not None:
        name = signal.Signals(here.stopped_by).name
        print(f"left because of {name}; the same command goes on", flush=True)
        return here.exit_code
    return 0 if count == len(runs) else 1


def wanted(nodes: Sequence[Node], finished: set[str]) -> set[str]:
    """Folders of what is still to be trained: missing runs, and the stems that those need."""
    needed: set[str] = set()
    for one in reversed(nodes):  # children before parents
        is_run = not one.phases
        if one.folder not in finished and (is_run or one.folder in needed):
            needed.add(one.folder)
            # a run that has a checkpoint of its own still names its stem
            if one.parent is not None:
                needed.add(one.parent)
    return needed - finished


def _as_jobs(sweep: SweepRecord, nodes: Sequence[Node], settings: Config) -> int:
    """Submit what is missing; wait for it, if asked to."""
    finished = {one.folder for one in nodes if one.is_finished}
    needed = wanted(nodes, finished)
    under = {folder: job for folder, job in jobs.queued(sweep).items() if folder in needed}
    for folder, job in under.items():
        print(f"{folder}: job {job} is in the queue", flush=True)
    missing = [one for one in nodes if one.folder in needed]
    todo = [one for one in missing if one.folder not in under]
    depths = jobs.depths_of(nodes)
    jobs.submit_missing(sweep, todo, depths, list(under.values()), settings.sweep.at_once)
    if not settings.sweep.wait:
        print("The same command, given later, tells how far they are and draws the report.")
        return 0
    queue = jobs.Jobs(sweep, settings.sweep.at_once, settings.sweep.poll_s)
    queue.watch(missing)
    try:
        while not queue.is_idle:
            for ended in queue.wait():
                done = jobs.comes_to_its_end(ended.node)
                log = jobs.log_of(ended.node, sweep.find(ended.node.folder))
                print(told(ended, log, done), flush=True)
    except KeyboardInterrupt:
        print("left; the jobs stay in the queue, and the same command waits for them", flush=True)
        return exit_codes.STOPPED
    runs = [one for one in nodes if not one.phases]
    count = sum(one.is_finished for one in runs)
    print(f"{count} of {len(runs)} runs are finished", flush=True)
    return 0 if count == len(runs) else 1
