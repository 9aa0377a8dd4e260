"""Between two steps: the ranks agree on whether to save and whether to leave, and do it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trainer import watchdog
from trainer.checkpoint.keeper import Keeper
from trainer.checkpoint.trainer_state import TrainedPhase
from trainer.console import LOGGER
from trainer.curriculum import Phase
from trainer.stopping import Agreed, Reason, Stopped, Stops


class Boundary:
    """Saves and leaves at steps that all ranks agree on.

    Args:
        fingerprints: phase -> fingerprint of its plan; it grows with the plan.
        settings: phase -> its configuration as plain values.
        before: phases that the run has behind it and does not select.

    Attributes:
        watches: what watches over losses remember, by name; part of every checkpoint.
    """

    def __init__(
        self,
        stops: Stops,
        keeper: Keeper,
        fingerprints: Mapping[str, str],
        settings: Mapping[str, dict[str, Any]],
        before: Sequence[TrainedPhase],
    ) -> None:
        self._stops, self._keeper = stops, keeper
        self._fingerprints, self._settings, self._before = fingerprints, settings, list(before)
        self.watches: dict[str, Any] = {}
        self._step: tuple[list[Phase], Phase, int] | None = None

    @property
    def passed_steps(self) -> list[int]:
        """Global steps that are left out for good."""
        return self._keeper.passed_steps

    def after_step(
        self, phases: list[Phase], phase: Phase, global_step: int, settle: Callable[[], None]
    ) -> None:
        """Save if it is time to, and leave if some rank was asked to; collective.

        Args:
            settle: records what is still on its way of this step and of those before.

        Raises:
            Stopped: the ranks leave; all is saved.
            TrainingFault: a checkpoint could not be written.
        """
        self._step = (phases, phase, global_step)
        keeper = self._keeper
        agreed = self._agree(keeper.time_is_up())
        leaves = agreed.reason is not Reason.NONE
        if leaves:
            settle()
            self._leave(agreed)
        if agreed.save or keeper.step_is_due(global_step):
            settle()
            self._save("it was time to")

    def after_phase(self, phases: list[Phase], phase: Phase) -> None:
        """Save at the end of a phase, and leave if some rank was asked to; collective.

        Raises:
            Stopped, TrainingFault: as :meth:`after_step`.
        """
        self._step = (phases, phase, phase.last_step)
        if self._keeper.is_on:
            self._save(f"phase '{phase.name}' ended")
        self.pause()

    def pause(self) -> None:
        """Leave if some rank was asked to, inside of an evaluation for instance; collective.

        Raises:
            Stopped, TrainingFault: as :meth:`after_step`.
        """
        agreed = self._agree(False)
        if agreed.reason is not Reason.NONE:
            self._leave(agreed)

    def cannot_write(self, words: str) -> None:
        """Take note that this rank cannot write: all ranks leave behind the step."""
        self._keeper.broken(words)

    def _agree(self, save: bool) -> Agreed:
        watchdog.at("comparing notes", waits=True)
        agreed = self._stops.agree(save, self._keeper.failed)
        if agreed.save_failed:
            self._keeper.settle()
        return agreed

    def _save(self, reason: str) -> None:
        assert self._step is not None
        phases, phase, global_step = self._step
        if self._keeper.newest == global_step:
            return
        trained = [
            TrainedPhase(
                one.name,
                one.first_step,
                one.last_step,
                self._fingerprints[one.name],
                self._settings[one.name],
            )
            for one in phases[: phases.index(phase) + 1]
        ]
        watchdog.at(f"checkpoint behind step {global_step}")
        self._keeper.save(
            global_step,
            [*self._before, *trained],
            dict(self.watches),
            global_step == phase.last_step,
            reason,
        )

    def _leave(self, agreed: Agreed) -> None:
        if self._step is None:
            raise Stopped(agreed.reason, f"Stopped before the first step: {agreed.why}.")
        step = self._step[2]
        if self._keeper.is_on:
            self._save(agreed.why)
            self._keeper.settle()
            saved = f"{self._keeper.folder(step)} is saved; the same command goes on from there"
        else:
            saved = "checkpoint.sharded=false: nothing was saved, the phase under way is lost"
        words = f"Stopped behind step {step}: {agreed.why}; {saved}."
        LOGGER.warning("%s", words)
        raise Stopped(agreed.reason, words)

    def stand_at(self, phases: list[Phase], phase: Phase, global_step: int, saved: bool) -> None:
        """Say where the run stands before its first step, behind a checkpoint.

        Args:
            saved: the checkpoint is one of this run's own.
        """
        self._step = (phases, phase, global_step)
        if saved:
            self._keeper.newest = global_step
