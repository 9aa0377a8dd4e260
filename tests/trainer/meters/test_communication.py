"""What is sent is timed on its way through DeepSpeed's backend, whichever of its methods is used."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
from deepspeed.comm.torch import TorchBackend

from tests.trainer.meters.test_clock import Told
from trainer.meters.clock import Part, StepClock
from trainer.meters.communication import COLLECTIVES, TimedBackend, TimedWork, timed_waits

#: Methods of the backend that send nothing, or that no step of ours comes to: pipelines and start-up.
ELSEWHERE = {
    *(
        "all_gather_base",
        "batch_isend_irecv",
        "gather",
        "irecv",
        "isend",
        "recv",
        "scatter",
        "send",
    ),
    *("monitored_barrier", "init_process_group", "destroy_process_group", "init_device_mesh"),
    *("enable_symm_mem_for_group", "new_group", "is_initialized"),
    *("has_all_gather_into_tensor", "has_reduce_scatter_tensor"),
    *("get_all_gather_function", "get_backend", "get_global_rank", "get_rank"),
    *("get_reduce_scatter_function", "get_world_group", "get_world_size"),
}


class Work:
    def wait(self, timeout: float = 0.0) -> str:
        return f"waited {timeout:g}"

    def is_completed(self) -> bool:
        return True


class Backend:
    """Answers like ``TorchBackend``."""

    name = "made up"

    def all_reduce(self, _: Any, async_op: bool = False) -> Work | None:
        return Work() if async_op else None

    def get_rank(self) -> int:
        return 3


@pytest.fixture
def clock() -> StepClock:
    made = StepClock(Told())
    made.begin()
    return made


def test_every_collective_of_deepspeed_is_timed() -> None:
    methods = {name for name, _ in inspect.getmembers(TorchBackend, callable) if name[0] != "_"}
    own = {name for name in methods if name in vars(TorchBackend)}
    assert own == {*COLLECTIVES, *ELSEWHERE}


def test_a_blocking_collective_is_communication(clock: StepClock) -> None:
    timed = TimedBackend(Backend(), clock)
    assert timed.all_reduce("tensor") is None
    assert (timed.get_rank(), timed.name) == (3, "made up")
    assert not hasattr(timed, "all_gather")
    assert clock.end().read()[Part.communication] == 1


def test_waiting_for_one_that_runs_beside_is(clock: StepClock) -> None:
    work = TimedBackend(Backend(), clock).all_reduce("tensor", async_op=True)
    assert isinstance(work, TimedWork)
    assert work.is_completed()
    assert work.wait(2.0) == "waited 2"
    assert clock.end().read()[Part.communication] == 2


def test_streams_wait_timed_and_are_left_as_they_were(clock: StepClock) -> None:
    class Stream:
        def wait_stream(self, _: Stream) -> str:
            return "queued"

        def synchronize(self) -> str:
            return "idle"

    before = dict(vars(Stream))

    def fails() -> None:
        with timed_waits(Stream, clock):
            assert Stream().wait_stream(Stream()) == "queued"
            assert Stream().synchronize() == "idle"
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert dict(vars(Stream)) == before
    assert clock.end().read()[Part.communication] == 2
