"""What a run starts from: a checkpoint, an earlier phase's weights, or a model."""

from __future__ import annotations

from dataclasses import dataclass

from trainer.config.schema import Config, Init
from trainer.curriculum import selected
from trainer.resume import Check, Resumed, find_resumed
from trainer.run_directory import RunDirectory


@dataclass(frozen=True)
class Start:
    """What a run starts from.

    Attributes:
        init_from: model directory to load instead of ``model``; None takes ``model`` itself.
        steps_before: optimizer steps in this run directory before the first selected phase.
        earlier_phases: finished phases that the run continues behind.
        words: one sentence for the log and the model card.
        resumed: the checkpoint that the run continues from; its weights replace the model's.
    """

    init_from: str | None
    steps_before: int
    earlier_phases: tuple[str, ...]
    words: str
    resumed: Resumed | None = None

    @property
    def steps_done(self) -> int:
        """Optimizer steps behind the run when it starts."""
        return self.steps_before if self.resumed is None else self.resumed.global_step

    @property
    def continues(self) -> bool:
        """Whether results of this run directory are built upon."""
        return bool(self.earlier_phases) or self.resumed is not None


def find_start(config: Config, run: RunDirectory, check: Check | None = None) -> Start:
    """Decide: a checkpoint, else ``init_from``, else the previous phase's weights, else the model.

    Args:
        check: of a checkpoint's content, see ``trainer.resume``.

    Raises:
        UserFault: as ``resume.find_resumed``.
    """
    resumed = find_resumed(config, run, check)
    if resumed is not None:
        behind = _weights_of(config, resumed)
        init_from = config.init_from
        if init_from is None and behind and resumed.source.export(behind[-1]).is_dir():
            init_from = str(resumed.source.export(behind[-1]))
        earlier = (*behind, *resumed.earlier_phases)
        return Start(init_from, resumed.steps_before, earlier, resumed.words, resumed)
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


def _weights_of(config: Config, resumed: Resumed) -> tuple[str, ...]:
    """Finished phases whose weights alone the run of a checkpoint had started from."""
    first = resumed.state.phases[0]
    order = list(config.curriculum.phases)
    if first.first_step == 1 or first.name not in order:
        return ()
    before = order[: order.index(first.name)]
    return tuple(name for name in before if resumed.source.finished(name) is not None)
