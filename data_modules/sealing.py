"""Entries of the cache: written beside their place, renamed when whole, and sealed.

The seal names every file of an entry with its size and a checksum, so that a file that was cut short,
lost or changed is noticed before anything is made of it. Of a file above :data:`WHOLE_BYTES` blocks all
over it are summed and not every byte: the check of a store of gigabytes takes a fraction of a second.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path
from uuid import uuid4

LOGGER = logging.getLogger("polyphase")

SEAL_FILE = "seal.json"
#: Files up to this size are summed whole, larger ones in BLOCKS blocks that add up to it.
WHOLE_BYTES = 4 << 20
BLOCKS = 64
#: Files up to this size are summed even in a quick check.
SMALL_BYTES = 64 << 10
_DAMAGED = ".damaged"


class scratch_beside:  # noqa: N801 (a context manager, used like a function)
    """A folder that takes the place of ``folder``, sealed, when all of it is written."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Path:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        name = tempfile.mkdtemp(dir=self.folder.parent, prefix=self.folder.name + ".tmp")
        self.scratch = Path(name)
        self.scratch.chmod(0o755)  # mkdtemp's 0700 would shut out others who share the cache
        return self.scratch

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
            return
        try:
            seal(self.scratch)
            self.scratch.rename(self.folder)
        except OSError:  # another process may have finished the same, identical, store first
            shutil.rmtree(self.scratch, ignore_errors=True)
            if not is_whole(self.folder, quick=True):
                raise


def seal(folder: Path, names: Iterable[str] | None = None) -> None:
    """Write the seal of a folder's files, in one rename; the folder is complete from then on.

    Args:
        names: files that are sealed; None seals all below the folder.
    """
    if names is None:
        found = (
            path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
        )
        names = sorted(name for name in found if name != SEAL_FILE)
    files = {name: [(folder / name).stat().st_size, _checksum(folder / name)] for name in names}
    scratch = folder / f"{SEAL_FILE}.tmp{uuid4().hex}"
    scratch.write_text(json.dumps({"files": files, "sum": _sum(files)}), encoding="utf-8")
    scratch.replace(folder / SEAL_FILE)


def is_whole(folder: Path, quick: bool = False) -> bool:
    """Whether a folder is there and as it was sealed.

    Args:
        quick: only sizes, and checksums of small files.
    """
    return folder.is_dir() and not damage_of(folder, quick)


def damage_of(folder: Path, quick: bool = False) -> str:
    """What is wrong with a folder, in words; empty where nothing is."""
    try:
        kept = json.loads((folder / SEAL_FILE).read_text(encoding="utf-8"))
        files = kept["files"]
        if kept["sum"] != _sum(files):
            return f"{SEAL_FILE} was changed"
    except FileNotFoundError:
        return f"it has no {SEAL_FILE}"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{SEAL_FILE} cannot be read ({type(error).__name__})"
    for name, (size, checksum) in files.items():
        try:
            found = (folder / name).stat().st_size
            if found != size:
                return f"{name} has {found:,} bytes and not {size:,}"
            if (not quick or size <= SMALL_BYTES) and _checksum(folder / name) != checksum:
                return f"{name} was changed"
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
    return ""


def made_anew(folder: Path, quick: bool = False) -> bool:
    """Whether ``folder`` has to be made; a damaged one is put out of the way first, and said so."""
    if not folder.exists():
        return True
    damage = damage_of(folder, quick)
    if not damage:
        return False
    aside = folder.with_name(f"{folder.name}{_DAMAGED}{uuid4().hex}")
    try:
        folder.rename(aside)
    except FileNotFoundError:
        return True  # another process that shares the cache was quicker
    if aside.is_dir() and is_whole(aside, quick):
        # made anew by another process between the look and the rename
        aside.rename(folder)
        return False
    LOGGER.warning("cache entry %s is damaged (%s); it is made again", folder, damage)
    if aside.is_dir():
        shutil.rmtree(aside, ignore_errors=True)
    else:
        aside.unlink(missing_ok=True)
    return True


def _checksum(path: Path) -> str:
    """Of a whole file, or of blocks all over a large one, its first and last among them."""
    digest = hashlib.blake2b(digest_size=16)
    size = path.stat().st_size
    # not mapped: mapped pages would count as memory of this process
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            digest.update(file.read())
        else:
            block = WHOLE_BYTES // BLOCKS
            for number in range(BLOCKS):
                file.seek((size - block) * number // (BLOCKS - 1))
                digest.update(file.read(block))
    return digest.hexdigest()


def _sum(files: object) -> str:
    text = json.dumps(files, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
