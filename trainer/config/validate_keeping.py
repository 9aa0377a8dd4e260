"""Rules on what a run keeps, when it ends, and where it goes on from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_modules.faults import Fault
from trainer.config.rules import above_zero, at_least
from trainer.config.schema import Config
from trainer.config.times import wall_seconds


def keeping_faults(config: Config) -> Iterator[Fault]:
    """Every fault of ``checkpoint``, ``limits.wall_time`` and ``resume``."""
    faults: list[Fault] = []
    checkpoint = config.checkpoint
    at_least("checkpoint.every_steps", checkpoint.every_steps, 1, faults)
    above_zero("checkpoint.every_minutes", checkpoint.every_minutes, faults)
    at_least("checkpoint.keep_last", checkpoint.keep_last, 1, faults)
    if not checkpoint.sharded:
        for name in ("every_steps", "every_minutes"):
            value = getattr(checkpoint, name)
            if value is not None:
                faults.append(
                    Fault(
                        f"checkpoint.{name}",
                        f"{value:g}",
                        "checkpoint.sharded=false keeps no training state",
                        f"Set checkpoint.sharded=true or checkpoint.{name}=null.",
                    )
                )
    if config.limits.wall_time is not None:
        try:
            above_zero("limits.wall_time", wall_seconds(config.limits.wall_time), faults)
        except ValueError as error:
            rule = "a time is written in full, as SLURM does: 47:30:00, or 2-00:00:00"
            faults.append(Fault("limits.wall_time", str(error), rule))
    named = config.resume.strip()
    if named not in ("auto", "never") and not (named and Path(named).is_dir()):
        faults.append(
            Fault(
                "resume",
                repr(config.resume),
                "it is auto, never, or a folder: a checkpoint or a run directory",
            )
        )
    yield from faults
