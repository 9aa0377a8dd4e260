"""Parts of a step: they add up, nest, and cost nothing where no step is timed."""

from __future__ import annotations

import time
from typing import Any

import pytest
import torch

from trainer.meters.clock import DeviceTimeline, HostTimeline, Part, StepClock


class Told(HostTimeline):
    """A clock that goes by one second a look; ``aside`` looks are not on it."""

    def __init__(self) -> None:
        self.time, self.aside = 0.0, False

    def now(self) -> Any:
        self.time += 1.0
        return None if self.aside else self.time


def test_parts_are_exclusive_and_add_up() -> None:
    clock = StepClock(Told())
    clock.begin()  # 1
    with clock.inside(Part.data):  # 2
        pass  # 3
    with clock.inside(Part.backward):  # 4
        with clock.inside(Part.communication):  # 5
            pass  # 6
        with clock.inside(Part.communication):  # 7
            pass  # 8
    found = clock.end().read()  # 9, 10
    assert found == {
        Part.data: 1,
        Part.forward: 0,
        Part.backward: 3,
        Part.optimizer: 0,
        Part.communication: 2,
        Part.other: 3,
    }
    assert sum(found.values()) == 10 - 1


def test_a_part_that_fails_is_left() -> None:
    clock = StepClock(Told())
    clock.begin()
    with pytest.raises(RuntimeError), clock.inside(Part.forward):
        raise RuntimeError
    found = clock.end().read()
    assert (found[Part.forward], found[Part.other]) == (1, 2)


def test_what_another_stream_does_is_no_part() -> None:
    timeline = Told()
    clock = StepClock(timeline)
    clock.begin()
    with clock.inside(Part.backward):
        timeline.aside = True
        with clock.inside(Part.communication):
            pass
        timeline.aside = False
    found = clock.end().read()
    assert found[Part.communication] == 0
    assert (found[Part.backward], found[Part.other]) == (2, 2)


def test_outside_of_a_step_nothing_is_kept() -> None:
    timeline = Told()
    clock = StepClock(timeline)
    with clock.inside(Part.forward):
        pass
    assert timeline.time == 0
    clock.begin()
    clock.end()
    with clock.inside(Part.forward):
        pass
    assert timeline.time == 2


def test_the_hosts_clock_is_wall_time() -> None:
    clock = StepClock.of(torch.device("cpu"))
    began = time.perf_counter()
    clock.begin()
    with clock.inside(Part.forward):
        time.sleep(0.02)
    turn = clock.end()
    whole = time.perf_counter() - began
    found = turn.read()
    assert found[Part.forward] >= 0.02
    assert sum(found.values()) == pytest.approx(whole, rel=0.02)


class _Event:
    """Stands for ``torch.cuda.Event``: the device comes by one at each second of its own."""

    made = 0
    device = 0.0
    waits = 0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing
        _Event.made += 1
        self.at = -1.0

    def record(self) -> None:
        _Event.device += 1.0
        self.at = _Event.device

    def synchronize(self) -> None:
        _Event.waits += 1

    def elapsed_time(self, end: _Event) -> float:
        assert end.at > self.at
        return 1000 * (end.at - self.at)


def test_a_devices_events_are_read_late_and_used_again(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = "compute"
    monkeypatch.setattr(torch.cuda, "Event", _Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: stream)
    clock = StepClock(DeviceTimeline())
    turns = []
    for _ in range(4):
        clock.begin()
        with clock.inside(Part.forward):
            stream = "gathering"
            with clock.inside(Part.communication):
                pass
            stream = "compute"
        turns.append(clock.end())
        if len(turns) > 1:
            waits = _Event.waits
            found = turns[-2].read()
            assert (found[Part.forward], found[Part.other], found[Part.communication]) == (1, 2, 0)
            assert _Event.waits == waits + 1
    assert _Event.made == 2 * 4  # two steps are under way, whatever the number of steps
