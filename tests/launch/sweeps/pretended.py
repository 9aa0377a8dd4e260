"""A runner that pretends: it leaves what a finished run leaves, and nothing is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from launch.sweeps.here import Ended, Here
from launch.sweeps.nodes import Node
from trainer import exit_codes
from trainer.config.strict_merge import to_yaml
from trainer.curriculum import selected
from trainer.run_directory import RunDirectory, write_text

#: What a run of these phases is worth.
Worth = Callable[[Node, Sequence[str]], float]


def finish(node: Node, worth: float) -> None:
    """Leave the files of a run that has come to its end."""
    run = RunDirectory(node.run)
    write_text(run.root / "config.yaml", to_yaml(node.config))
    write_text(run.root / "worth.json", json.dumps(worth))
    write_text(run.report, "done")


def objectives_of(run: Path, _measures: Sequence[str]) -> list[float]:
    """In place of the real one: reads no evaluation."""
    return [json.loads((run / "worth.json").read_text(encoding="utf-8"))]


class Pretended(Here):
    """Runs end at once, in the order in which they were started.

    Attributes:
        started: folder and phases of every run.
        codes: folder -> exit code of runs that fail; one of 0 finishes.
        leave_after: this process is asked to leave once so many runs were started.
    """

    started: list[tuple[str, tuple[str, ...]]]
    codes: dict[str, int]
    leave_after: int | None
    worth: Worth

    def __init__(self, at_once: int) -> None:
        super().__init__(at_once)
        self._waiting: list[Node] = []

    @property
    def has_room(self) -> bool:
        return len(self._waiting) < self.at_once

    @property
    def is_idle(self) -> bool:
        return not self._waiting

    def start(self, node: Node) -> None:
        type(self).started.append((node.folder, tuple(selected(node.config))))
        self._waiting.append(node)
        if self.leave_after is not None and len(self.started) >= self.leave_after:
            self.stopped_by = 2

    def wait(self, _leaves: Callable[[], bool] = lambda: False) -> list[Ended]:
        if not self._waiting:
            return []
        node = self._waiting.pop(0)
        if self.stopped_by is not None:
            return [Ended(node, exit_codes.STOPPED, 1.0)]
        code = self.codes.get(node.folder, 0)
        if not code:
            finish(node, self.worth(node, list(selected(node.config))))
        return [Ended(node, code, 1.0)]

    @contextmanager
    def passing_on(self) -> Iterator[None]:
        yield


def pretending(worth: Worth, leave_after: int | None = None) -> type[Pretended]:
    """A runner of its own for one test."""
    return type(
        "One",
        (Pretended,),
        {"started": [], "codes": {}, "leave_after": leave_after, "worth": staticmethod(worth)},
    )
