"""Time in collectives, as far as the rank waits for them: on the way of DeepSpeed's calls to PyTorch.

Everything that DeepSpeed sends goes through one backend object, so a stand-in for it during a step sees
all of it, whatever the ZeRO stage. A collective that blocks counts as a whole; of one that runs beside the
computing only what is waited for it. On a GPU such waiting is that of one stream for another, or of the
host for a stream. Waiting for slower ranks is a part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trainer.meters.clock import Part, StepClock

#: Methods of ``deepspeed.comm.torch.TorchBackend`` that send something.
COLLECTIVES = (
    *("all_reduce", "all_reduce_coalesced", "inference_all_reduce", "reduce"),
    *("reduce_scatter", "reduce_scatter_tensor"),
    *("all_gather", "all_gather_into_tensor", "all_gather_coalesced", "all_gather_object"),
    *("all_to_all", "all_to_all_single", "broadcast", "broadcast_object_list", "barrier"),
)


class TimedWork:
    """A running collective; waiting for it is communication."""

    def __init__(self, work: Any, clock: StepClock) -> None:
        self._work, self._clock = work, clock

    def wait(self, *args: Any, **kwargs: Any) -> Any:
        with self._clock.inside(Part.communication):
            return self._work.wait(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._work, name)


class TimedBackend:
    """Stands in for a backend of ``deepspeed.comm``.

    Args:
        backend: what does the work.
    """

    def __init__(self, backend: Any, clock: StepClock) -> None:
        self._backend, self._clock = backend, clock
        for name in COLLECTIVES:
            if hasattr(backend, name):
                setattr(self, name, self._timed(getattr(backend, name)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def _timed(self, collective: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            with self._clock.inside(Part.communication):
                found = collective(*args, **kwargs)
            return TimedWork(found, self._clock) if hasattr(found, "wait") else found

        return call


@contextmanager
def timed_waits(stream: type, clock: StepClock) -> Iterator[None]:
    """Inside, a wait for another stream is communication: DeepSpeed overlaps nothing else.

    Args:
        stream: the class of streams, ``torch.cuda.Stream``.
    """
    before = {name: getattr(stream, name) for name in ("wait_stream", "synchronize")}

    def timed(wait: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> Any:
            with clock.inside(Part.communication):
                return wait(*args)

        return call

    for name, wait in before.items():
        setattr(stream, name, timed(wait))
    try:
        yield
    finally:
        for name, wait in before.items():
            setattr(stream, name, wait)
