"""Decides when checkpoints are written, and what stands in them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from trainer import distributed
from trainer.checkpoint import folder as folders
from trainer.checkpoint.live_state import adam_step, frozen_checksum, owned_fragments
from trainer.checkpoint.trainer_state import TrainedPhase, TrainerState
from trainer.checkpoint.writer import SaveFailed, Writer
from trainer.config.schema import Config
from trainer.config.strict_merge import to_plain
from trainer.distributed import Ranks
from trainer.engine import ZeroEngine
from trainer.faults import TrainingFault
from trainer.run_directory import RunDirectory

# Of the model's configuration: where it lies and who wrote it shape nothing.
_NOT_SHAPING = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")


class Keeper:
    """Writes the checkpoints of one run.

    Attributes:
        passed_steps: steps that are left out for good.
    """

    def __init__(
        self, config: Config, run: RunDirectory, ranks: Ranks, engine: ZeroEngine, attempt: str
    ) -> None:
        self._config, self._run, self._ranks, self._engine = config, run, ranks, engine
        self._settings = to_plain(config)
        self._model = model_settings(engine)
        self._parameters = parameter_shapes(engine)
        self._frozen: int | None = None
        self._last = time.monotonic()
        self._writer = Writer(
            run.checkpoints,
            ranks.rank,
            ranks.world_size,
            attempt,
            config.checkpoint.keep_last,
            config.cluster.process_group_timeout_s,
        )
        self._broken: SaveFailed | None = None
        self.newest: int | None = None
        self.passed_steps: list[int] = []

    @property
    def is_on(self) -> bool:
        """Whether the run keeps checkpoints at all."""
        return self._config.checkpoint.sharded

    def time_is_up(self) -> bool:
        """Whether the last checkpoint is ``checkpoint.every_minutes`` old; each rank has its own clock."""
        minutes = self._config.checkpoint.every_minutes
        due = minutes is not None and time.monotonic() - self._last >= 60 * minutes
        return due and self.is_on

    def step_is_due(self, global_step: int) -> bool:
        """Whether ``checkpoint.every_steps`` asks for one behind this step."""
        every = self._config.checkpoint.every_steps
        return self.is_on and every is not None and global_step % every == 0

    @property
    def failed(self) -> bool:
        """Whether this rank could not write a checkpoint, or :meth:`broken` was told of something else."""
        return self._writer.failed or self._broken is not None

    def broken(self, words: str) -> None:
        """Take note that this rank cannot write; all ranks learn it behind the step."""
        self._broken = SaveFailed(words)

    def folder(self, global_step: int) -> Path:
        """Where the checkpoint of a step lies."""
        return self._run.checkpoints / folders.step_name(global_step)

    def save(
        self,
        global_step: int,
        phases: Sequence[TrainedPhase],
        watches: dict[str, Any],
        phase_end: bool,
        reason: str,
    ) -> None:
        """Begin a checkpoint; training goes on when its state is copied. Collective.

        Args:
            phases: as far as they are trained, the one under way last.

        Raises:
            TrainingFault: some rank could not write the one before.
        """
        self.settle()
        if self._frozen is None:
            self._frozen = frozen_checksum(self._engine)
        state = TrainerState(
            global_step=global_step,
            phases=list(phases),
            settings=self._settings,
            model=self._model,
            parameters=self._parameters,
            frozen=self._frozen,
            adam_step=adam_step(self._engine),
            world_size=self._ranks.world_size,
            zero_stage=self._engine.stage,
            passed_steps=self.passed_steps,
            cursors=self._run.cursors() if self._ranks.is_main else {},
            watches=watches,
            phase_end=phase_end,
            reason=reason,
        )
        fragments = owned_fragments(self._engine, self._ranks.rank, self._ranks.world_size)
        self._writer.save(fragments, state)
        self.newest = global_step
        self._last = time.monotonic()

    def settle(self) -> None:
        """Wait until the last checkpoint is on the disk; collective.

        Raises:
            TrainingFault: some rank could not write it.
        """
        # The main rank's writer waits for the others' files, so they are asked first.
        others = distributed.gather(self._ranks, None if self._ranks.is_main else self._failure())
        if any(failure is not None for _, failure in others):
            self._writer.give_up()
        all_ranks = enumerate(distributed.gather(self._ranks, self._failure()))
        failures = [(rank, host, one) for rank, (host, one) in all_ranks if one is not None]
        if failures:
            causes = [one for one in failures if not one[2].is_elsewhere] or failures
            words = "; ".join(f"rank {rank} on {host}: {failure}" for rank, host, failure in causes)
            left = folders.newest(self._run.checkpoints)
            kept = "There is none yet." if left is None else f"The last complete one is {left}."
            raise TrainingFault(
                f"The run could not be written to the disk: {words}. {kept} Mend it (free disk space?) and "
                "start the same command again."
            )

    def finish(self) -> None:
        """Wait until the last checkpoint is on the disk, or is sure never to be; collective."""
        with contextlib.suppress(TrainingFault):
            self.settle()

    def _failure(self) -> SaveFailed | None:
        """Wait for this rank's writer; why it could not write."""
        if self._broken is not None:
            return self._broken
        try:
            self._writer.wait()
        except SaveFailed as failure:
            return failure
        return None


def model_settings(engine: ZeroEngine) -> dict[str, Any]:
    """The model's own configuration, as far as it shapes the computation, as JSON has it."""
    described = engine.causal_model.config.to_dict()
    return {
        name: value
        for name, value in described.items()
        if name not in _NOT_SHAPING and _is_plain(value)
    }


def parameter_shapes(engine: ZeroEngine) -> dict[str, list[int]]:
    """Shapes of the trained parameters, whole ones under ZeRO-3 too."""

    def shape(parameter: nn.Parameter) -> list[int]:
        return list(getattr(parameter, "ds_shape", parameter.shape))

    return {
        name: shape(parameter)
        for name, parameter in engine.module.named_parameters()
        if parameter.requires_grad
    }


def _is_plain(value: object) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(one) for key, one in value.items())
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | int | float | bool)
