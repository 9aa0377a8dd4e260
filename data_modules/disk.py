"""What the disk refuses, as faults of the setting that names the place."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from data_modules.faults import DataFault, Fault, UserFault

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_REFUSED = frozenset(
    {errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.EEXIST}
    | {errno.ENAMETOOLONG, errno.ELOOP, errno.EIO, errno.ENOENT}
)


@contextmanager
def written_below(key: str, folder: Path) -> Iterator[None]:
    """Work that writes below ``folder``, which the setting ``key`` names.

    Raises:
        DataFault: the disk is full, or refuses to write there.
    """
    try:
        yield
    except OSError as error:
        fault = _disk_fault(key, folder, error)
        if fault is None:
            raise
        raise fault from error


def place_fault(key: str, folder: Path, writable: bool = True) -> Fault | None:
    """Why a folder can neither be used nor made, as far as that is known without making it.

    Args:
        key: dotted key that names it.
        writable: it must not be read-only either.
    """
    for place in (folder, *folder.absolute().parents):
        try:
            if not place.exists():
                continue
            is_folder = place.is_dir()
        except OSError as error:  # a name that is too long, a parent that may not be looked into
            return Fault(key, f"{place}: {error.strerror}", "it must be a folder", f"Set {key}=...")
        if not is_folder:
            seen = f"{folder}: {place} is a file" if place != folder else f"{folder} is a file"
            return Fault(
                key, seen, "it must be a folder, or one must be made there", f"Set {key}=..."
            )
        if writable and not os.access(place, os.W_OK | os.X_OK):
            seen = (
                f"{folder}: {place} is read-only" if place != folder else f"{folder} is read-only"
            )
            remedy = f"Set {key}=... or change its permissions."
            return Fault(key, seen, "files are written there", remedy)
        return None
    return None


def _disk_fault(key: str, folder: Path, error: OSError) -> UserFault | None:
    """None where the error is not about writing below the folder."""
    if _is_full(error):
        return DataFault(
            Fault(
                key,
                f"no room to write below {folder} ({_free_words(folder)})",
                "the disk, a quota or a limit on file sizes is reached",
                f"Make room, or set {key} to another disk. What is finished is kept, the same "
                "command continues.",
            )
        )
    name = error.filename
    is_there = isinstance(name, str | os.PathLike) and Path(name).is_relative_to(folder)
    if error.errno in _REFUSED and is_there:
        return DataFault(
            Fault(
                key,
                f"cannot write {name} ({error.strerror})",
                f"files are written below {folder}",
                f"Set {key}=... or change its permissions; what is damaged there may be deleted.",
            )
        )
    return None


def _is_full(error: OSError) -> bool:
    # numpy's tofile gives no number: "4096 requested and 512 written"
    return error.errno in _FULL or (
        error.errno is None and " requested and " in str(error) and str(error).endswith("written")
    )


def _free_words(folder: Path) -> str:
    place = folder.absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return f"{shutil.disk_usage(place).free / 1e6:,.1f} MB free"
    except OSError:
        return "free space unknown"
