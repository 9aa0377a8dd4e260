"""The private folder of a program: watched while it runs, removed at its end.

A program can nest folders deeper than any path is long, and make them unreadable.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

#: Files and folders that a program may keep.
ENTRIES = 1000


def holds_more(folder: Path, size: int) -> bool:
    """Whether a folder holds more than ``size`` bytes or ENTRIES entries, or hides what it holds."""
    used = entries = 0
    waiting = [str(folder)]
    while waiting:
        try:
            with os.scandir(waiting.pop()) as found:
                for entry in found:
                    entries += 1
                    used += entry.stat(follow_symlinks=False).st_blocks * 512
                    # whole blocks: small files may round up
                    if entries > ENTRIES or used > size + 4096 * entries:
                        return True
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
        except FileNotFoundError:
            continue
        except OSError:
            return True
    return False


def remove(folder: Path) -> None:
    """Removes a folder whatever a program made of it; its process must have ended."""
    fresh = secrets.token_hex(8)
    moved = 0
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        place.chmod(0o700)
        with os.scandir(place) as found:
            entries = [(Path(entry), entry.is_dir(follow_symlinks=False)) for entry in found]
        for entry, is_folder in entries:
            if is_folder:
                # up to the top, so that paths stay short; without write permission it cannot move
                entry.chmod(0o700)
                waiting.append(entry.rename(folder / f".{fresh}-{moved}"))
                moved += 1
            else:
                entry.unlink()
        if place != folder:
            place.rmdir()
    folder.rmdir()
