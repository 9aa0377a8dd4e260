"""Reads any stretch of any parameter from a checkpoint, however many ranks wrote it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from trainer.checkpoint.folder import Damaged, Marker
from trainer.checkpoint.live_state import (
    MASTER,
    held_fragments,
    prepare_moments,
    refresh_weights,
    set_adam_step,
)
from trainer.checkpoint.trainer_state import TrainerState
from trainer.engine import ZeroEngine


class _Piece(NamedTuple):
    start: int
    stop: int
    file: int
    key: str


class ShardReader:
    """The shards of one checkpoint, memory-mapped."""

    def __init__(self, folder: Path, marker: Marker) -> None:
        self._files: list[Any] = []
        self._pieces: dict[tuple[str, str], list[_Piece]] = {}
        for number, name in enumerate(marker.shards):
            try:
                file = safe_open(folder / name, framework="pt")
                self._files.append(file)
                for key in file.keys():  # noqa: SIM118 (not a dict)
                    kind, parameter, start, numel = _described(key, file.get_slice(key))
                    piece = _Piece(start, start + numel, number, key)
                    self._pieces.setdefault((kind, parameter), []).append(piece)
            except (OSError, SafetensorError, ValueError) as error:
                raise Damaged(f"{name} cannot be read ({error})") from error
        for pieces in self._pieces.values():
            pieces.sort()

    def read_into(self, target: torch.Tensor, kind: str, parameter: str, start: int) -> None:
        """Fill a 1-D tensor with a stretch of a parameter's state.

        Raises:
            Damaged: not all of it is there.
        """
        at, stop = start, start + target.numel()
        for piece in self._pieces.get((kind, parameter), []):
            if piece.stop <= at:
                continue
            if piece.start > at:
                break
            until = min(piece.stop, stop)
            stored = self._files[piece.file].get_slice(piece.key)
            part = stored[at - piece.start : until - piece.start]
            target.narrow(0, at - start, until - at).copy_(part)
            at = until
            if at >= stop:
                return
        if at < stop:
            raise Damaged(f"{kind} of {parameter} is missing from element {at} on")


def _described(key: str, stored: Any) -> tuple[str, str, int, int]:
    """Of a stored stretch: kind, parameter, start and length.

    Raises:
        ValueError: it is none that a checkpoint holds.
    """
    kind, start, parameter = key.split(":", 2)
    if stored.get_dtype() != "F32" or int(start) < 0:
        raise ValueError(f"{key} holds {stored.get_dtype()} from element {start} on")
    (numel,) = stored.get_shape()
    return kind, parameter, int(start), numel


@torch.no_grad()
def restore(engine: ZeroEngine, folder: Path, marker: Marker, state: TrainerState) -> None:
    """Put an engine into the state of a checkpoint; collective.

    Raises:
        Damaged: some of it is missing.
    """
    reader = ShardReader(folder, marker)
    prepare_moments(engine)
    for fragment in held_fragments(engine):
        for kind, target in fragment.tensors.items():
            if kind != MASTER and not state.adam_step:
                target.zero_()  # no step has made moments yet
            else:
                reader.read_into(target, kind, fragment.name, fragment.start)
    set_adam_step(engine, state.adam_step)
    refresh_weights(engine)
