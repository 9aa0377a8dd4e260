"""Whether a container is well: its packages are there, its GPUs answer, and its ranks give signs of life.

Nothing heavy is imported: it takes a fraction of a second, beside a run that trains. Exit code 0 or 1, with
one line per fault.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path

_PACKAGES = ("torch", "deepspeed", "transformers", "trainer", "launch")
#: Far above ``cluster.heartbeat_s``. The run's own watchdog judges sooner, and ends it.
_SILENT_S = 300.0


def faults(outputs: Path, variant: str) -> Iterator[str]:
    """What is wrong here, in words."""
    for name in _PACKAGES:
        if importlib.util.find_spec(name) is None:
            yield f"the package {name} is missing"
    if variant == "cuda":
        yield from _gpu_faults()
    for depth in ("*", "*/*", "*/*/*"):  # names of runs are paths
        for path in sorted(outputs.glob(f"{depth}/alive/rank_*.json")):
            yield from _sign_faults(path)


def _gpu_faults() -> Iterator[str]:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        yield "no NVIDIA driver: start the container with --gpus all"
        return
    count = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code:
        yield f"the NVIDIA driver answers with error {code}"
    elif not count.value:
        yield "no GPU is visible: start the container with --gpus all"


def _sign_faults(path: Path) -> Iterator[str]:
    """A rank of this container that runs, says nothing and has not left."""
    try:
        sign = json.loads(path.read_text(encoding="utf-8"))
        who, state = sign["identity"], sign["state"]
        here = _is_alive(who)
        age = time.time() - path.stat().st_mtime
    except (OSError, ValueError, KeyError, TypeError):
        return  # it is being replaced, or another program's
    if here and state == "running" and age > _SILENT_S:
        yield f"rank {who['rank']} (pid {who['pid']}) has given no sign of life for {age:.0f} s"


def _is_alive(who: dict[str, object]) -> bool:
    """Whether that very process runs here: with --network=host names of hosts and small pids come again."""
    try:
        stat = Path(f"/proc/{who['pid']}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    # as trainer.watchdog.signs takes it: the 22nd field, behind a name that may hold anything
    born = stat.rpartition(")")[2].split()[19]
    return who["host"] == socket.gethostname() and who["born"] == born


def main() -> int:
    """Print what is wrong; 1 if anything is."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    found = list(faults(Path("outputs"), os.environ.get("POLYPHASE_VARIANT", "cpu")))
    print("\n".join(found) or "healthy")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
