"""A checkpoint on disk: its files, the marker that makes it complete, and whether it still is.

checkpoints/
  latest                              name of the newest complete one
  step_000120/
    complete.json                     size and sha256 of every other file; written last
    trainer_state.json                see trainer.checkpoint.trainer_state
    shard_00000_of_00002.safetensors  one a rank
  step_000140.tmp-1f3a9c/             being written; never read
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainer.checkpoint.shard_file import Written, hash_file, sync_folder

COMPLETE = "complete.json"
STATE = "trainer_state.json"
LATEST = "latest"
_NAME = re.compile(r"step_(\d{6,18})")
_SHARD = re.compile(r"shard_(\d{5,})_of_(\d{5,})\.safetensors")
_SCRATCH = ".tmp-"


class Damaged(Exception):
    """A checkpoint cannot be used; the text says why."""


@dataclass(frozen=True)
class Marker:
    """What ``complete.json`` says.

    Attributes:
        files: every other file of the checkpoint.
    """

    global_step: int
    phase_end: bool
    files: dict[str, Written]

    @property
    def shards(self) -> list[str]:
        """The ranks' files, by rank."""
        return sorted(name for name in self.files if _SHARD.fullmatch(name))


def step_name(global_step: int) -> str:
    """Name of a checkpoint's folder."""
    return f"step_{global_step:06d}"


def shard_name(rank: int, world_size: int) -> str:
    """Name of a rank's file."""
    return f"shard_{rank:05d}_of_{world_size:05d}.safetensors"


def scratch_of(folder: Path, attempt: str) -> Path:
    """Where a checkpoint is written until it is complete.

    Args:
        attempt: names one start of the run, so that what a killed one still writes is kept apart.
    """
    return folder.with_name(folder.name + _SCRATCH + attempt)


def clear_scratch(root: Path) -> None:
    """Remove what earlier, interrupted saves left."""
    for folder in root.glob(f"step_*{_SCRATCH}*"):
        shutil.rmtree(folder, ignore_errors=True)


def complete(scratch: Path, folder: Path, marker: Marker) -> None:
    """Mark a written checkpoint complete, give it its name and point ``latest`` to it."""
    text = json.dumps(
        {
            "global_step": marker.global_step,
            "phase_end": marker.phase_end,
            "files": {name: asdict(one) for name, one in marker.files.items()},
        },
        indent=2,
    )
    write_synced(scratch / COMPLETE, text)
    sync_folder(scratch)
    if folder.is_dir():  # damaged, or of steps that were taken back
        remove(folder)
    scratch.rename(folder)
    sync_folder(folder.parent)
    _point_latest(folder.parent)


def newest(root: Path) -> Path | None:
    """The newest complete checkpoint; its files are not looked at."""
    for folder in checkpoints(root):
        try:
            read_marker(folder)
        except Damaged:
            continue
        return folder
    return None


def _point_latest(root: Path) -> None:
    """Write ``latest`` anew: for people and other programs, as this one looks for itself."""
    found = newest(root)
    try:
        if found is not None:
            write_synced(root / LATEST, found.name + "\n")
            return
    except OSError:
        pass  # the disk is full; that does not make the checkpoint a failure
    (root / LATEST).unlink(missing_ok=True)


def remove(folder: Path) -> None:
    """Delete a checkpoint; killed half-way, it is no longer complete."""
    (folder / COMPLETE).unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def prune(root: Path, keep_last: int) -> None:
    """Delete all but the newest ``keep_last`` complete checkpoints and those of phase ends."""
    complete_ones = 0
    for folder in checkpoints(root):
        try:
            phase_end = read_marker(folder).phase_end
        except Damaged:
            if complete_ones:
                remove(folder)
            continue
        complete_ones += 1
        if complete_ones > keep_last and not phase_end:
            remove(folder)


def drop_after(root: Path, global_step: int) -> None:
    """Delete checkpoints of later steps, which are about to be trained again."""
    later = [folder for folder in checkpoints(root) if step_of(folder) > global_step]
    for folder in later:
        remove(folder)
    if later:
        _point_latest(root)


def checkpoints(root: Path) -> list[Path]:
    """Folders named like checkpoints, the newest first; complete or not."""
    if not root.is_dir():
        return []
    found = [one for one in root.iterdir() if _NAME.fullmatch(one.name) and one.is_dir()]
    return sorted(found, key=step_of, reverse=True)


def step_of(folder: Path) -> int:
    """The step that a checkpoint's name says."""
    match = _NAME.fullmatch(folder.name)
    assert match is not None, folder
    return int(match[1])


def read_marker(folder: Path) -> Marker:
    """What makes a checkpoint complete.

    Raises:
        Damaged: there is no marker, or it is no marker.
    """
    found = read_json_object(folder / COMPLETE)
    try:
        step, phase_end, files = found["global_step"], found["phase_end"], found["files"]
        written = {
            name: Written(_number(one["bytes"]), _text(one["sha256"]))
            for name, one in files.items()
        }
        marker = Marker(_number(step), _truth(phase_end), written)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise Damaged(f"{COMPLETE} is no marker ({error!r})") from error
    strange = [name for name in written if name != STATE and not _SHARD.fullmatch(name)]
    if strange:
        raise Damaged(f"{COMPLETE} names a file that is none of a checkpoint: {strange[0]!r}")
    if STATE not in written:
        raise Damaged(f"{COMPLETE} does not name {STATE}")
    ranks = [_SHARD.fullmatch(name) for name in marker.shards]
    numbers = [(int(one[1]), int(one[2])) for one in ranks if one is not None]
    if not numbers or numbers != [(rank, len(numbers)) for rank in range(len(numbers))]:
        raise Damaged(f"{COMPLETE} does not name one shard of every rank")
    return marker


def check_sizes(folder: Path, marker: Marker) -> None:
    """Look at every file without reading it.

    Raises:
        Damaged: a file is missing, or shorter or longer than it was.
    """
    for name, written in marker.files.items():
        try:
            size = (folder / name).stat().st_size
        except OSError as error:
            raise Damaged(f"{name} is missing ({error.strerror})") from error
        if size != written.bytes:
            raise Damaged(f"{name} has {size} bytes, it had {written.bytes}")


def check_content(folder: Path, marker: Marker, names: list[str]) -> None:
    """Read files and compare their checksums.

    Raises:
        Damaged: a file is not what was written.
    """
    for name in names:
        try:
            found = hash_file(folder / name)
        except OSError as error:
            raise Damaged(f"{name} cannot be read ({error.strerror})") from error
        if found != marker.files[name]:
            raise Damaged(f"{name} is not what was written: its checksum differs")


def read_json_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file of a checkpoint.

    Raises:
        Damaged: there is no such file, or something else is in it.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise Damaged(f"{path.name} cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{path.name} is no JSON ({error})") from error
    if not isinstance(found, dict):
        raise Damaged(f"{path.name} holds no JSON object")
    return found


def write_synced(path: Path, text: str) -> Written:
    """Write a small file in one rename and see it onto the disk."""
    scratch = path.with_name(path.name + ".tmp")
    with scratch.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    written = hash_file(scratch)
    scratch.replace(path)
    return written


def as_written(found: Mapping[str, Any]) -> Written:
    """A ``Written`` from its JSON."""
    return Written(_number(found["bytes"]), _text(found["sha256"]))


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is no count")
    return value


def _truth(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{value!r} is neither true nor false")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value
