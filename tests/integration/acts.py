"""What befalls a rank in a test: it dies, hangs, stops or errs at the n-th call of a function.

Called in every rank before its command (see :mod:`rank_processes`). A target is ``module:attribute``, as
in ``trainer.engine:ZeroEngine.train_step``. A function that another module imported by name is patched
there: ``trainer.run:export``, not ``trainer.export:export``. Calls are counted from 1 in each
process; ``rank`` None means every rank.
"""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import importlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def signal_at(target: str, rank: int | None, call: int = 1, number: int = signal.SIGTERM) -> None:
    """The rank sends itself a signal, then the call goes on."""
    _before(target, rank, call, lambda: os.kill(os.getpid(), number))


def kill_at(target: str, rank: int | None, call: int = 1) -> None:
    """The rank is gone at once, as when the kernel runs out of memory."""
    signal_at(target, rank, call, signal.SIGKILL)


def stop_at(target: str, rank: int | None, call: int = 1) -> None:
    """The whole process stands still, all threads of it."""
    signal_at(target, rank, call, signal.SIGSTOP)


def hang_at(target: str, rank: int | None, call: int = 1, seconds: float = 3600.0) -> None:
    """The rank sleeps; its other threads run on."""
    _before(target, rank, call, lambda: time.sleep(seconds))


def hold_gil_at(target: str, rank: int | None, call: int = 1, seconds: int = 3600) -> None:
    """The rank sleeps in C code that keeps the interpreter's lock, so no other Python thread runs."""
    _before(target, rank, call, lambda: ctypes.PyDLL(None).sleep(seconds))


def skip(target: str) -> None:
    """Calls of the function do nothing: for what a test has no eye for and no time."""
    owner, name, _ = _found(target)
    setattr(owner, name, lambda *_, **__: None)


def raise_at(
    target: str,
    rank: int | None,
    call: int = 1,
    error: str = "builtins:RuntimeError",
    arguments: tuple[Any, ...] = ("made to fail",),
) -> None:
    """The call raises; ``error`` is ``module:Class``."""

    def fail() -> None:
        raise _found(error)[2](*arguments)

    _before(target, rank, call, fail)


def log_rows(path: str) -> None:
    """Write the rows of every step that this rank makes batches of: one JSON object a line."""
    module = importlib.import_module("data_modules.phase_data_module")
    collate, owner = module.collate, module.PhaseDataModule
    step_batches, rows = owner.step_batches, []

    def collected(store: Any, some: Any, *args: Any) -> Any:
        if not args[-1]:  # a filler row of an idle rank counts for nothing
            rows.extend(int(row) for row in some)
        return collate(store, some, *args)

    def logged(self: Any, phase: str, step: int, *args: Any) -> Any:
        rows.clear()
        batches = step_batches(self, phase, step, *args)
        entry = {"phase": phase, "step": step, "rows": sorted(rows)}
        with open(f"{path}.rank{os.environ['RANK']}", "a", encoding="utf-8") as file:  # noqa: PTH123
            file.write(json.dumps(entry) + "\n")
        return batches

    setattr(module, "collate", collected)  # noqa: B010 (mypy would take it for the function's type)
    setattr(owner, "step_batches", logged)  # noqa: B010


def on_hosts(hosts: list[str]) -> None:
    """Ranks take themselves to lie on these hosts, one name per rank, and see no pid of another host."""
    from trainer.watchdog.signs import Identity

    here = hosts[int(os.environ["RANK"])]
    real = Identity.of_this_process

    def pretended(rank: int) -> Identity:
        return dataclasses.replace(real(rank), host=here, pid_space=here)

    Identity.of_this_process = pretended  # type: ignore[method-assign, assignment]


def write_group_timeouts(target: str, folder: str) -> None:
    """Instead of the call, the rank writes down the timeout of every process group it belongs to."""
    from torch.distributed import distributed_c10d

    def write(*_: Any, **__: Any) -> None:
        found = [
            group._get_backend(torch.device("cpu")).options._timeout.total_seconds()
            for group in distributed_c10d._world.pg_map
            if not distributed_c10d._rank_not_in_group(group)
        ]
        Path(folder, f"timeouts_{os.environ['RANK']}.json").write_text(json.dumps(found))

    owner, name, _ = _found(target)
    setattr(owner, name, write)


def poison_row(tokens: list[int]) -> None:
    """The embeddings of one row, told by its tokens, are NaN wherever the row appears."""
    embed = torch.nn.Embedding.forward
    wanted = torch.tensor(tokens)

    def poisoned(self: torch.nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
        out = embed(self, ids)
        if ids.shape[-1] >= len(wanted):
            hits = (ids.unfold(-1, len(wanted), 1) == wanted).all(-1)
            for row, start in hits.nonzero().tolist():
                out = out.clone()
                out[row, start : start + len(wanted)] = float("nan")
        return out

    setattr(torch.nn.Embedding, "forward", poisoned)  # noqa: B010


def spike_at(step: int, factor: float) -> None:
    """In the step of this number since the start, all losses are so many times what they are."""
    engine = importlib.import_module("trainer.engine").ZeroEngine
    train_step, forward, now = engine.train_step, engine._forward, [0]

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        now[0] += 1
        return train_step(self, *args, **kwargs)

    def jumped(self: Any, batch: Any) -> Any:
        loss, sums = forward(self, batch)
        return (loss * factor, sums * factor) if now[0] == step else (loss, sums)

    engine.train_step, engine._forward = counted, jumped


def nan_at(target: str, rank: int | None, call: int = 1, calls: int = 1) -> None:
    """Every float and floating tensor in the result of ``calls`` calls is NaN; gradients follow."""

    def make(original: Callable[..., Any], count: Callable[[], int]) -> Callable[..., Any]:
        @functools.wraps(original)
        def patched(*args: Any, **kwargs: Any) -> Any:
            now = count()
            result = original(*args, **kwargs)
            return _spoiled(result) if call <= now < call + calls else result

        return patched

    _patch(target, rank, make)


def _spoiled(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value * float("nan") if value.is_floating_point() else value
    if isinstance(value, float):
        return float("nan")
    if isinstance(value, tuple):
        parts = [_spoiled(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else tuple(parts)
    if isinstance(value, list):
        return [_spoiled(part) for part in value]
    if isinstance(value, dict):
        return {key: _spoiled(part) for key, part in value.items()}
    return value


def _before(target: str, rank: int | None, call: int, act: Callable[[], object]) -> None:
    def make(original: Callable[..., Any], count: Callable[[], int]) -> Callable[..., Any]:
        @functools.wraps(original)
        def patched(*args: Any, **kwargs: Any) -> Any:
            if count() == call:
                act()
            return original(*args, **kwargs)

        return patched

    _patch(target, rank, make)


def _patch(
    target: str,
    rank: int | None,
    make: Callable[[Callable[..., Any], Callable[[], int]], Callable[..., Any]],
) -> None:
    owner, name, original = _found(target)
    calls = 0

    def count() -> int:
        nonlocal calls
        calls += 1
        return calls

    if rank is None or rank == int(os.environ["RANK"]):
        setattr(owner, name, make(original, count))


def _found(target: str) -> tuple[Any, str, Any]:
    module, _, path = target.partition(":")
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(module))
    return owner, name, getattr(owner, name)
