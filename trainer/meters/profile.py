"""Traces of a few steps by PyTorch's profiler, for the ranks that are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from trainer.config.schema import ProfileConfig
from trainer.console import LOGGER
from trainer.meters.clock import StepClock

#: Operators in the table beside a trace, those with the most time of their own first.
_ROWS = 40


class StepProfile:
    """Profiles the steps of a run that ``profile`` asks for, and leaves all others alone.

    The profiler starts a step early, so that what it sets up is in no trace.

    Args:
        folder: gets ``rank_N.json.gz``, a trace that ``ui.perfetto.dev`` opens, and ``rank_N.txt``.
        clock: its parts are named in the trace.
    """

    def __init__(
        self, settings: ProfileConfig, folder: Path, rank: int, clock: StepClock, device: str
    ) -> None:
        self._settings, self._folder, self._rank, self._clock = settings, folder, rank, clock
        self._device = device
        wanted = settings.first_step is not None and rank in settings.ranks
        self._first = settings.first_step if wanted else None
        self._profiler: Any = None
        self._traced: list[int] = []

    @contextmanager
    def step(self, global_step: int) -> Iterator[None]:
        """Around a step, from waiting for its data on."""
        if self._first is None:
            yield
            return
        if global_step == self._first - 1:
            self._start()
        if self._profiler is None:
            yield
            return
        with torch.profiler.record_function(f"step {global_step}"):
            yield
        if global_step >= self._first:
            self._traced.append(global_step)
        if len(self._traced) == self._settings.steps:
            self.close()
        else:
            self._profiler.step()

    def close(self) -> None:
        """Write what there is of a trace: its steps are done, or nothing follows that belongs to it."""
        if self._profiler is None:
            return
        profiler, self._profiler, self._clock.traced = self._profiler, None, False
        profiler.stop()
        if self._traced:
            self._first = None
            try:
                self._write(profiler)
            except OSError as error:  # no reason to end a run, nor to hide why it ends
                LOGGER.warning("profile: the trace could not be written: %s", error)

    def conclude(self) -> None:
        """At the end of a run: say so if no trace came about."""
        if self._first is not None:
            LOGGER.warning(
                "profile: the steps from %d on were not traced. A trace needs that step and the one before "
                "it in one phase, from one start of the run; set profile.first_step to such a step",
                self._first,
            )

    def _start(self) -> None:
        settings, kinds = self._settings, torch.profiler.ProfilerActivity
        self._profiler = torch.profiler.profile(
            activities=[kinds.CPU, *([kinds.CUDA] if self._device == "cuda" else [])],
            schedule=torch.profiler.schedule(wait=0, warmup=1, active=settings.steps, repeat=1),
            record_shapes=settings.shapes,
            profile_memory=settings.memory,
            with_stack=settings.stacks,
        )
        self._profiler.start()
        self._clock.traced = True

    def _write(self, profiler: Any) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        trace = self._folder / f"rank_{self._rank}.json.gz"
        table = self._folder / f"rank_{self._rank}.txt"
        profiler.export_chrome_trace(str(trace))
        key = f"self_{'device' if self._device == 'cuda' else 'cpu'}_time_total"
        text = profiler.key_averages().table(sort_by=key, row_limit=_ROWS)
        table.write_text(text, encoding="utf-8")
        steps = f"{self._traced[0]} to {self._traced[-1]}"
        LOGGER.info(
            "profile: steps %s are in %s (open it at ui.perfetto.dev) and %s", steps, trace, table
        )
