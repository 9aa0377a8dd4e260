"""How long each part of a step takes: marks in a row, so that the parts add up to the whole.

On the CPU a mark is the host's time. On a GPU it is an event in the stream that computes: what the device
was busy with, or waited for, between two marks. Events are read one step late, when they have long come by.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from enum import StrEnum
from itertools import pairwise
from types import TracebackType
from typing import Any, Protocol

import torch


class Part(StrEnum):
    """What a step spends its time on."""

    data = "data"  # waiting for the micro-batches
    forward = "forward"
    backward = "backward"
    optimizer = "optimizer"  # clipping and the update
    communication = "communication"  # collectives, as far as the rest waits for them
    other = "other"  # drawing seeds, judging and writing down figures, measurements beside training


class Timeline(Protocol):
    """Moments and the time between them."""

    def now(self) -> Any:
        """This moment; None where it is not on the time line: in another stream."""

    def seconds(self, moments: Sequence[Any]) -> list[float]:
        """Between each moment and the next; moments are not read again."""

    def begin(self) -> None:
        """A step begins here, in the stream that computes."""


class HostTimeline:
    """The clock of this process."""

    def now(self) -> float:
        return time.perf_counter()

    def seconds(self, moments: Sequence[float]) -> list[float]:
        return [end - start for start, end in pairwise(moments)]

    def begin(self) -> None:
        """The host has one clock."""


class DeviceTimeline:
    """Events in the stream that computes; what another stream does is no part of the step's course."""

    def __init__(self) -> None:
        self._free: list[torch.cuda.Event] = []
        self._stream: Any = None

    def begin(self) -> None:
        self._stream = torch.cuda.current_stream()

    def now(self) -> torch.cuda.Event | None:
        if torch.cuda.current_stream() != self._stream:
            return None
        event = self._free.pop() if self._free else torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def seconds(self, moments: Sequence[torch.cuda.Event]) -> list[float]:
        moments[-1].synchronize()
        found = [start.elapsed_time(end) / 1000 for start, end in pairwise(moments)]
        self._free += moments
        return found


class Turn:
    """The marks of one step."""

    def __init__(self, timeline: Timeline, parts: list[Part], moments: list[Any]) -> None:
        self._timeline, self._parts, self._moments = timeline, parts, moments

    def read(self) -> dict[Part, float]:
        """Seconds of every part, once; their sum is the time of the step. Waits for the device."""
        found = dict.fromkeys(Part, 0.0)
        for part, seconds in zip(self._parts, self._timeline.seconds(self._moments), strict=True):
            found[part] += seconds
        return found


class StepClock:
    """The clock of a run's steps; outside of a step it does nothing.

    Attributes:
        traced: name the parts for the profiler, too.
    """

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self._parts: list[Part] = []
        self._moments: list[Any] = []
        self._runs = False
        self.traced = False

    @classmethod
    def of(cls, device: torch.device) -> StepClock:
        """The clock for steps that a device computes."""
        return cls(DeviceTimeline() if device.type == "cuda" else HostTimeline())

    def begin(self) -> None:
        """A step begins; what no context names a part of is ``other``."""
        self._timeline.begin()
        self._parts, self._moments, self._runs = [], [], True
        self.switch(Part.other)

    def switch(self, part: Part) -> Part | None:
        """From here on it is another part; the one before. None where nothing is measured."""
        if not self._runs:
            return None
        moment = self._timeline.now()
        if moment is None:
            return None
        before = self._parts[-1] if self._parts else part
        self._parts.append(part)
        self._moments.append(moment)
        return before

    def inside(self, part: Part) -> _Inside:
        """A context of which all is one part, except for contexts inside of it."""
        return _Inside(self, part)

    def end(self) -> Turn:
        """The step is over."""
        assert self._runs, "end() without begin()"
        self._moments.append(self._timeline.now())
        self._runs = False
        return Turn(self._timeline, self._parts, self._moments)


class _Inside:
    """See ``StepClock.inside``; written out, since ``contextmanager`` costs three times as much."""

    __slots__ = ("_before", "_clock", "_part", "_range")

    def __init__(self, clock: StepClock, part: Part) -> None:
        self._clock, self._part = clock, part
        self._before: Part | None = None
        self._range: Any = None

    def __enter__(self) -> None:
        if self._clock.traced:
            self._range = torch.profiler.record_function(self._part.value)
            self._range.__enter__()
        self._before = self._clock.switch(self._part)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._before is not None:
            self._clock.switch(self._before)
        if self._range is not None:
            self._range.__exit__(kind, error, traceback)
