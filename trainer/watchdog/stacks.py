"""Where threads are: one line for a sign of life, whole stacks for whoever looks for the cause."""

from __future__ import annotations

import faulthandler
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

_ROOT = Path(__file__).resolve().parents[2]
_COLLECTIVES = ("/torch/distributed/distributed_c10d.py", "/deepspeed/comm/")
#: The main thread is here while hooks, which may be collectives, run in threads of autograd.
_AUTOGRAD = "/torch/autograd/graph.py"


def main_thread() -> tuple[str, bool]:
    """Where the main thread is (``file:line function``), and whether it waits in a collective."""
    frames = sys._current_frames()
    main = frames.pop(threading.main_thread().ident or 0, None)
    if main is None:
        return "", False
    waits = _in_collective(main)
    if not waits and main.f_code.co_filename.endswith(_AUTOGRAD):
        frames.pop(threading.get_ident(), None)
        waits = any(_in_collective(frame) for frame in frames.values())
    return _where(main), waits


def dump(path: Path, headline: str) -> None:
    """Add the stacks of all threads to a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {headline}\n")
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)


def _in_collective(frame: FrameType) -> bool:
    return any(part in one.f_code.co_filename for one in _callers(frame) for part in _COLLECTIVES)


def _where(frame: FrameType) -> str:
    """The innermost frame and, where a library holds it, the innermost of our own."""
    innermost = _line(frame)
    for one in _callers(frame):
        if _is_ours(one):
            return innermost if one is frame else f"{innermost}, from {_line(one)}"
    return innermost


def _callers(frame: FrameType) -> Iterator[FrameType]:
    one: FrameType | None = frame
    while one is not None:
        yield one
        one = one.f_back


def _is_ours(frame: FrameType) -> bool:
    path = Path(frame.f_code.co_filename)
    return path.is_relative_to(_ROOT) and "site-packages" not in path.parts


def _line(frame: FrameType) -> str:
    path = Path(frame.f_code.co_filename)
    if _is_ours(frame):
        path = path.relative_to(_ROOT)
    elif "site-packages" in path.parts:
        path = Path(*path.parts[path.parts.index("site-packages") + 1 :])
    return f"{path}:{frame.f_lineno} {frame.f_code.co_name}"
