"""``launch/submit.py -m``: a grid or a search, begun or gone on with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from data_modules.faults import ConfigFault, Fault
from launch.submission.composed import compose_config
from launch.sweeps.composed import quoted
from launch.sweeps.grid import run_grid
from launch.sweeps.here import shares
from launch.sweeps.members import member
from launch.sweeps.nodes import RUNS, Places
from launch.sweeps.syntax import Asked, read
from trainer.config.schema import ClusterKind, Config, SweepKind
from trainer.config.validate_sweep import search_faults, sweep_faults


def sweep(overrides: list[str]) -> int:
    """Train what is missing of a sweep, and draw its report.

    Args:
        overrides: as ``launch/train.py`` takes them, some with several values in Hydra's syntax.

    Returns:
        0 if all runs are finished, or handed over; 1 if any failed or is damaged; 98 or 99 if it was
        asked to leave.

    Raises:
        ConfigFault: with all faults of all runs, before any is trained.
    """
    anything = read(overrides, search=True)
    first = {axis.key: axis.ends()[0] for axis in anything.axes}
    settings = compose_config(member("", anything, first).overrides)
    is_search = settings.sweep.kind is SweepKind.search
    asked = read(overrides, is_search)
    faults = [*sweep_faults(settings), *_faults(settings, asked)]
    if is_search:
        faults += search_faults(settings)
    if faults:
        raise ConfigFault(faults)
    root = Path(settings.sweep.directory).absolute()
    places = Places(root, _resume(asked), tuple(_for_all(settings, root)))
    if settings.cluster.dry_run:
        return _run(asked, overrides, settings, places)
    with _alone(root):
        code = _run(asked, overrides, settings, places)
        is_whole = draw_report(root)
    return code or int(not is_whole)


def _run(asked: Asked, overrides: Sequence[str], settings: Config, places: Places) -> int:
    if settings.sweep.kind is SweepKind.grid:
        return run_grid(asked, overrides, settings, places)
    from launch.sweeps.search import run_search  # with Optuna, which takes a second to load

    return run_search(asked, overrides, settings, places)


def _faults(settings: Config, asked: Asked) -> Iterator[Fault]:
    cluster = settings.cluster
    if cluster.kind is ClusterKind.ssh:
        rule = "a sweep trains on this host or as SLURM's jobs"
        yield Fault("cluster.kind", "ssh", rule, "Choose cluster=local or cluster=slurm.")
    if cluster.chain:
        rule = "a run of a sweep is one job; phases that runs share are jobs of their own anyway"
        yield Fault("cluster.chain", "true", rule, "Leave it out.")
    if not asked.axes:
        rule = "a sweep varies something"
        remedy = "Give a setting several values (seed=0,1), or leave -m out."
        yield Fault("command line", "no setting has several values", rule, remedy)


def _resume(asked: Asked) -> str | None:
    return None if asked.resume is None else str(Path(asked.resume).absolute())


def _for_all(settings: Config, root: Path) -> Iterator[str]:
    """Overrides that every run gets beside its place."""
    if settings.logging.wandb_group is None:
        yield f"logging.wandb_group={quoted(root.name)}"
    if settings.cluster.kind is ClusterKind.local:
        yield from shares(settings.cluster, settings.sweep.at_once)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """One command at a time works on a sweep; the system lets go, whatever ends the process."""
    lock = FileLock(str(root / ".lock"))
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        rule = "two commands would train the same runs"
        seen = f"{root} is worked on by another command"
        raise ConfigFault(
            Fault("sweep.directory", seen, rule, "Wait for it, or stop it.")
        ) from None
    except OSError as error:
        rule = "all of a sweep is kept there"
        seen = f"{root}: {error.strerror or error}"
        raise ConfigFault(Fault("sweep.directory", seen, rule)) from error
    try:
        yield
    finally:
        lock.release()


def draw_report(root: Path) -> bool:
    """Draw what there is to be seen; whether no finished run had to be left out as damaged."""
    from trainer.report.sweep import read_sweep_facts, write_sweep_report

    facts = read_sweep_facts(root)
    page = write_sweep_report(facts)
    for name in facts.damaged:
        again = f"Without {root / RUNS / name} the same command trains that run again."
        print(f"DAMAGED, not in the report: {facts.unfinished[name]} {again}", flush=True)
    if page is not None:
        print(f"page: {page}", flush=True)
    return not facts.damaged
