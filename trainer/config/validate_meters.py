"""Rules on what is measured of a run's steps, and when garbage is collected."""

from __future__ import annotations

from collections.abc import Iterator

from data_modules.faults import Fault
from trainer.config.rules import at_least
from trainer.config.schema import Config


def meter_faults(config: Config, dp_world_size: int | None) -> Iterator[Fault]:
    """Every fault of ``profile`` and ``gc_every_steps``.

    Args:
        dp_world_size: ranks of the training; None where nothing is trained.
    """
    settings, faults = config.profile, list[Fault]()
    at_least("gc_every_steps", config.gc_every_steps, 1, faults)
    if settings.first_step is not None and settings.first_step < 2:
        rule = "the profiler is set up during the step before, so 2 is the first that it can trace"
        faults.append(Fault("profile.first_step", f"{settings.first_step}", rule))
    at_least("profile.steps", settings.steps, 1, faults)
    if not settings.ranks:
        faults.append(Fault("profile.ranks", "[]", "some rank is traced", "Set profile.ranks=[0]."))
    if settings.first_step is not None and dp_world_size is not None:
        for rank in settings.ranks:
            if not 0 <= rank < dp_world_size:
                rule = f"ranks of this training are 0 to {dp_world_size - 1}"
                faults.append(Fault("profile.ranks", f"{rank}", rule))
    yield from faults
