"""Where the main thread is, in one line, and whether it waits in a collective."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from trainer.watchdog import stacks

Found = tuple[str, bool]
SITE = "/venv/lib/python3.11/site-packages"


def looked_at() -> Found:
    """What another thread sees of this one."""
    found: list[Found] = []
    thread = threading.Thread(target=lambda: found.append(stacks.main_thread()))
    thread.start()
    thread.join()
    return found[0]


def called_in(file: str, function: str, inner: Callable[[], Found]) -> Callable[[], Found]:
    """A function that seems to lie in a file and calls another."""
    names: dict[str, Callable[[], Found]] = {"inner": inner}
    exec(compile(f"def {function}():\n    return inner()", file, "exec"), names)
    return names[function]


@pytest.mark.parametrize(
    ("file", "waits"),
    [
        (f"{SITE}/torch/distributed/distributed_c10d.py", True),
        (f"{SITE}/deepspeed/comm/torch.py", True),
        (f"{SITE}/deepspeed/runtime/engine.py", False),
        (f"{SITE}/torch/distributed/run.py", False),  # a launcher's frame is no collective
    ],
)
def test_a_collective_shows(file: str, waits: bool) -> None:
    assert called_in(file, "all_reduce", looked_at)()[1] is waits


def test_a_hook_in_a_thread_of_autograd_shows_while_the_main_thread_is_in_backward() -> None:
    inside, leave = threading.Event(), threading.Event()

    def wait() -> Found:
        inside.set()
        leave.wait()
        return "", False

    hook = called_in(f"{SITE}/torch/distributed/distributed_c10d.py", "all_reduce", wait)
    thread = threading.Thread(target=hook)
    thread.start()
    inside.wait()
    try:
        # the innermost frame is what counts, so the main thread must wait without calling anything
        go, found = [False], list[Found]()

        def look() -> None:
            while not go[0]:
                pass
            found.append(stacks.main_thread())

        looking = threading.Thread(target=look)
        looking.start()
        code = "go[0] = True\nwhile not found: pass"
        exec(compile(code, f"{SITE}/torch/autograd/graph.py", "exec"), {"go": go, "found": found})
        looking.join()
        assert found[0][1] is True
        assert looked_at()[1] is False  # not in backward, so another thread's collective is its own
    finally:
        leave.set()
        thread.join()


def test_the_line_names_the_library_and_who_called_it() -> None:
    where, _ = called_in(f"{SITE}/torch/nn/linear.py", "forward", looked_at)()
    # the innermost frame is Python's own, waiting for the thread
    assert "threading.py:" in where
    assert ", from tests/trainer/watchdog/test_stacks.py:" in where
    assert where.endswith(" looked_at")


def test_a_dump_has_its_headline_and_every_thread(tmp_path: Path) -> None:
    leave = threading.Event()

    def linger_here() -> None:
        leave.wait()

    thread = threading.Thread(target=linger_here)
    thread.start()
    file = tmp_path / "log" / "rank_0.stacks.txt"
    stacks.dump(file, "why")
    stacks.dump(file, "again")
    leave.set()
    thread.join()
    text = file.read_text(encoding="utf-8")
    assert [line[20:] for line in text.splitlines() if line.startswith("2")] == ["why", "again"]
    assert text.count("linger_here") == 2
    assert text.count("test_a_dump_has_its_headline") == 2
