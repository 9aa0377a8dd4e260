"""What earlier starts of a run left in its directory: taken over, or taken back."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from trainer.checkpoint.folder import drop_after
from trainer.curriculum import Phase
from trainer.evaluation import results
from trainer.evaluation.results import Evaluation
from trainer.resume import Found
from trainer.run_directory import INITIAL, RunDirectory
from trainer.start import Start


def is_finished(run: RunDirectory, phase: Phase, steps_done: int) -> bool:
    """Whether nothing is left to be done of a phase, behind so many steps."""
    if phase.last_step < steps_done:
        return True  # the weights are those of a later phase
    found = run.finished(phase.name)
    return (
        phase.last_step == steps_done
        and found is not None
        and found["last_step"] == phase.last_step
    )


def earlier_evaluations(run: RunDirectory, start: Start) -> dict[str, Evaluation]:
    """The evaluations, by column, that lie behind what a run starts from."""
    resumed, phases = start.resumed, list(start.earlier_phases)
    if resumed is not None:
        run = resumed.source
        phases += [name for name in resumed.finished if name not in resumed.earlier_phases]
    found: dict[str, Evaluation] = {}
    if start.continues:
        for column in (INITIAL, *phases):
            path = run.evaluation(column)
            if path.is_file():
                found[column] = results.load(path)
    return found


def builds_on_own(run: RunDirectory, start: Start) -> bool:
    """Whether the run builds on what its own directory holds, and not on another run or on nothing."""
    resumed = start.resumed
    if resumed is not None:
        return resumed.source.root.resolve() == run.root.resolve()
    return start.continues


def clear(
    run: RunDirectory, start: Start, phases: Iterable[str], finished: Collection[str]
) -> None:
    """Take back what an earlier start left behind the point that this one goes on from.

    Args:
        phases: the selected ones.
        finished: those of them that are done.
    """
    resumed, own = start.resumed, builds_on_own(run, start)
    run.begin([name for name in phases if name not in finished or not own], own)
    if not own:
        drop_after(run.checkpoints, 0)  # where it is a link, its folder stays
    if resumed is None:
        run.cut_after(start.steps_before)
        return
    if not own:
        run.inherit(resumed.source, [*start.earlier_phases, *finished])
    take_back(run, resumed)


def take_back(run: RunDirectory, found: Found, spared: Collection[str] = ()) -> None:
    """Take back what was measured and saved behind a checkpoint.

    Args:
        spared: files that keep what was written since.
    """
    step, last = found.state.global_step, found.state.phases[-1]
    cursors, first_again = found.state.cursors, step
    closed = run.finished(last.name)
    if step == last.last_step and closed is not None:
        # Its evaluation is behind the checkpoint of its last step, and done.
        cursors, first_again = closed["cursors"], step + 1
    now = {name: length for name, length in run.cursors().items() if name in spared}
    run.cut({**cursors, **now}, first_again)
    drop_after(run.checkpoints, step)
