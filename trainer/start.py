"""Which weights a run starts from."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config.schema import Config, Init
from trainer.curriculum import selected
from trainer.run_directory import RunDirectory


@dataclass(frozen=True)
class Start:
    """The weights a run starts from.

    Attributes:
        init_from: model directory to load instead of ``model``; None takes ``model`` itself.
        steps_before: optimizer steps already behind those weights in this run directory.
        earlier_phases: finished phases of this run directory that the run continues behind.
        words: one sentence for the log and the model card.
    """

    init_from: str | None
    steps_before: int
    earlier_phases: tuple[str, ...]
    words: str


def find_start(config: Config, run: RunDirectory) -> Start:
    """Decide: ``init_from``, else the previous phase's result in the run directory, else the model."""
    if config.init_from is not None:
        return Start(config.init_from, 0, (), f"Starts from init_from={config.init_from}.")
    order = list(config.curriculum.phases)
    first = next(iter(selected(config)))
    before = order[: order.index(first)]
    if before:
        state = run.finished(before[-1])
        if state is not None and run.export(before[-1]).is_dir():
            finished = tuple(name for name in before if run.finished(name) is not None)
            words = (
                f"Starts from phase '{before[-1]}' in {run.root} (step {state['last_step']}, "
                "weights only; the optimizer state starts afresh)."
            )
            return Start(str(run.export(before[-1])), state["last_step"], finished, words)
    model = config.model
    source = "random weights" if model.init is Init.random else str(model.path)
    why = f"; no finished phase '{before[-1]}' in {run.root}" if before else ""
    return Start(None, 0, (), f"Starts from the model itself ({source}{why}).")
