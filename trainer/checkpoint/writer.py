"""Writes checkpoints beside training: training stands still while its state is copied to host memory."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import torch

from trainer.checkpoint import folder as folders
from trainer.checkpoint.folder import Marker, as_written, shard_name
from trainer.checkpoint.live_state import Fragment
from trainer.checkpoint.shard_file import Written, write_shard
from trainer.checkpoint.trainer_state import TrainerState

_POLL_SECONDS = 0.05
_MISSING = "has not written its part"


class SaveFailed(Exception):
    """A checkpoint could not be written; earlier ones are as they were."""

    @property
    def is_elsewhere(self) -> bool:
        """Whether the cause lies with another rank."""
        return str(self).endswith(_MISSING)


class Writer:
    """This rank's writer; at most one checkpoint is on its way.

    Ranks need no word from one another: each leaves a note when its file is on the disk, and the main
    rank completes the checkpoint when all notes are there. The folder is one that all ranks see.

    Args:
        root: folder of the run's checkpoints.
        attempt: see ``folder.scratch_of``.
        patience_s: the main rank waits this long for the others' files.
    """

    def __init__(
        self,
        root: Path,
        rank: int,
        world_size: int,
        attempt: str,
        keep_last: int,
        patience_s: float,
    ) -> None:
        self._root, self._rank, self._world_size = root, rank, world_size
        self._attempt, self._keep_last, self._patience = attempt, keep_last, patience_s
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._given_up = threading.Event()
        self._buffers: dict[str, torch.Tensor] = {}

    def save(self, fragments: Iterable[Fragment], state: TrainerState) -> float:
        """Copy the state and write it in the background.

        Returns:
            Seconds for which training stood still.

        Raises:
            SaveFailed: an earlier checkpoint could not be written here.
        """
        began = time.perf_counter()
        self.wait()
        # The text is made here: lists and dicts in the state go on changing, as tensors do.
        work = (
            self._copied(fragments),
            Marker(state.global_step, state.phase_end, {}),
            state.text(),
        )
        self._thread = threading.Thread(
            target=self._run, args=work, name="checkpoint writer", daemon=True
        )
        self._thread.start()
        return time.perf_counter() - began

    @property
    def failed(self) -> bool:
        """Whether a checkpoint could not be written; :meth:`wait` says why."""
        return self._error is not None

    def give_up(self) -> None:
        """Stop waiting for the other ranks' files: one of them will not come."""
        self._given_up.set()

    def wait(self) -> None:
        """Wait until nothing is on its way.

        Raises:
            SaveFailed: it could not be written.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            raise SaveFailed(_words(self._error)) from self._error

    def _copied(self, fragments: Iterable[Fragment]) -> dict[str, torch.Tensor]:
        """Host copies; the memory is kept for the next checkpoint."""
        copies: dict[str, torch.Tensor] = {}
        on_gpu = False
        for fragment in fragments:
            for kind, source in fragment.tensors.items():
                key = f"{kind}:{fragment.start}:{fragment.name}"
                buffer = self._buffers.get(key)
                if buffer is None or buffer.shape != source.shape:
                    buffer = torch.empty(
                        source.shape, dtype=torch.float32, pin_memory=source.is_cuda
                    )
                    self._buffers[key] = buffer
                buffer.copy_(source, non_blocking=True)
                on_gpu = on_gpu or source.is_cuda
                copies[key] = buffer
        if on_gpu:
            torch.cuda.synchronize()
        return copies

    def _run(self, tensors: dict[str, torch.Tensor], marker: Marker, state: str) -> None:
        folder = self._root / folders.step_name(marker.global_step)
        scratch = folders.scratch_of(folder, self._attempt)
        try:
            scratch.mkdir(parents=True, exist_ok=True)
            name = shard_name(self._rank, self._world_size)
            written = write_shard(scratch / name, tensors)
            folders.write_synced(self._note(scratch, self._rank), json.dumps(asdict(written)))
            if self._rank == 0:
                files = self._all_shards(scratch)
                files[folders.STATE] = folders.write_synced(scratch / folders.STATE, state)
                folders.complete(scratch, folder, replace(marker, files=files))
                folders.prune(self._root, self._keep_last)
        except Exception as error:  # it is raised in the training thread, at the next step boundary
            if isinstance(error, FileNotFoundError) and not scratch.is_dir():
                error = SaveFailed(f"another rank {_MISSING}")  # and removed what there was
            self._error = error
            # Frees the disk, and tells the other ranks that this checkpoint will not be.
            shutil.rmtree(scratch, ignore_errors=True)

    def _all_shards(self, scratch: Path) -> dict[str, Written]:
        deadline = time.monotonic() + self._patience
        files: dict[str, Written] = {}
        for rank in range(self._world_size):
            note = self._note(scratch, rank)
            while not note.is_file():
                late = time.monotonic() > deadline or self._given_up.is_set()
                if late or not scratch.is_dir():
                    raise SaveFailed(f"rank {rank} {_MISSING}")
                time.sleep(_POLL_SECONDS)
            files[shard_name(rank, self._world_size)] = as_written(json.loads(note.read_text()))
            note.unlink()
        return files

    @staticmethod
    def _note(scratch: Path, rank: int) -> Path:
        return scratch / f"rank_{rank:05d}.written"


def _words(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f" ({error.filename})" if error.filename else ""
        return f"{error.strerror}{where}"
    return str(error) or type(error).__name__
