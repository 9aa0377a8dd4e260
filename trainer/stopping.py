"""Leaving early without losing work: signals, a STOP file, the end of the time.

A request reaches one rank at some moment; all must act on it behind the same step. So they compare
notes after every step, over a group of their own that runs on the host beside the GPU's work.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import torch
import torch.distributed as dist

from trainer import exit_codes
from trainer.config.times import wall_seconds
from trainer.distributed import Ranks
from trainer.run_directory import RunDirectory
from trainer.watchdog.group_errors import is_group_error

_LOOK_SECONDS = 1.0  # between looks at the STOP file: it may lie on a slow network disk
# A signal that comes again so soon is the same one: a job's scheduler signals launchers and ranks, and
# launchers pass on to their ranks what they get.
_SAME_SECONDS = 3.0
_RANKS = 1 << 20


class Reason(IntEnum):
    """Why a run leaves early; of several at once the greatest counts."""

    NONE = 0
    STOP_FILE = 1
    SIGINT = 2
    REQUEUE_FILE = 3
    WALL_TIME = 4
    SIGUSR1 = 5
    SIGTERM = 6

    @property
    def exit_code(self) -> int:
        """Whether to start again by itself, see ``trainer.exit_codes``."""
        by_hand = (Reason.STOP_FILE, Reason.SIGINT)
        return exit_codes.STOPPED if self in by_hand else exit_codes.REQUEUE


_SIGNALS: dict[int, Reason] = {
    signal.SIGTERM: Reason.SIGTERM,
    signal.SIGINT: Reason.SIGINT,
    signal.SIGUSR1: Reason.SIGUSR1,
}


class Stopped(Exception):
    """The run leaves early, on all ranks, with its work saved as the text says."""

    def __init__(self, reason: Reason, words: str) -> None:
        super().__init__(words)
        self.reason = reason

    @property
    def exit_code(self) -> int:
        return self.reason.exit_code


@dataclass(frozen=True)
class Agreed:
    """What the ranks agree on between two steps.

    Attributes:
        why: ``reason`` in words.
        save: it is time for a checkpoint.
        save_failed: some rank could not write its part of one.
    """

    reason: Reason
    why: str
    save: bool
    save_failed: bool


@dataclass
class _Asked:
    """The request that counts so far, and when it came."""

    reason: Reason = Reason.NONE
    moment: float = 0.0

    def is_second(self, reason: Reason, moment: float) -> bool:
        """Whether it was asked twice: whoever asks cannot wait."""
        return not self._is_new(reason) and moment - self.moment >= _SAME_SECONDS

    def take(self, reason: Reason, moment: float) -> bool:
        """Take note of a request; whether it is more than one of before, passed on."""
        is_new = self._is_new(reason)
        if is_new:
            self.reason, self.moment = reason, moment
        return is_new

    def _is_new(self, reason: Reason) -> bool:
        only_warned = self.reason is Reason.SIGUSR1 and reason is not Reason.SIGUSR1
        return self.reason is Reason.NONE or only_warned


def _end_when_asked_twice(told: int) -> None:
    """End the process at a second signal, though the main thread may wait where Python hears none.

    Args:
        told: file descriptor that the number of every signal can be read from.
    """
    asked = _Asked()
    with open(told, "rb", buffering=0) as file:
        while numbers := file.read(64):
            for number in numbers:
                reason, now = _SIGNALS.get(number), time.monotonic()
                if reason is None:
                    continue
                if asked.is_second(reason, now):
                    os._exit(128 + number)
                asked.take(reason, now)


def _hear_nothing() -> None:
    """In a forked process: its signals are not this one's."""
    if _listening:
        signal.set_wakeup_fd(-1)


_listening = False
os.register_at_fork(after_in_child=_hear_nothing)


class Stops:
    """Hears requests to leave, and makes the ranks agree on them.

    Until :meth:`begin_training` a first signal ends the process at once, as there is nothing to save.
    So does a second signal that comes later than launchers pass a first one on; but what follows
    SIGUSR1, a warning ahead of the end, is the first.

    A rank that leaves before training leaves a note; the others, whose next collective fails for want of
    it, leave alike.

    Args:
        group: for host memory; None is a single process.
        wall_time: see ``limits.wall_time``.
    """

    def __init__(
        self,
        run: RunDirectory,
        ranks: Ranks,
        group: dist.ProcessGroup | None,
        wall_time: str | None,
    ) -> None:
        self._run, self._ranks, self._group = run, ranks, group
        self._deadline: float | None = None
        if wall_time is not None:
            # The clock of psutil and ours may differ by a step of the system clock; both start here.
            age = max(0.0, time.time() - psutil.Process().create_time())
            self._deadline = time.monotonic() - age + wall_seconds(wall_time)
        self._asked = _Asked()
        self._training = False
        self._looked = float("-inf")
        self._before: dict[int, Any] = {}
        self._tell: int | None = None

    def listen(self) -> None:
        """Take over the signals; only a process's main thread can."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in _SIGNALS:
            self._before[number] = signal.signal(number, self._hear)
        # Python calls a handler in the main thread, between two lines of it: in no collective.
        told, self._tell = os.pipe()
        os.set_blocking(self._tell, False)
        global _listening
        _listening = True
        signal.set_wakeup_fd(self._tell, warn_on_full_buffer=False)
        threading.Thread(
            target=_end_when_asked_twice, args=(told,), name="second signal", daemon=True
        ).start()

    def forget(self) -> None:
        """Remove the note of an earlier start; by the main rank, before the others go on."""
        self._note.unlink(missing_ok=True)

    @contextmanager
    def together(self) -> Iterator[None]:
        """Inside, a collective that fails because a rank was asked to leave before training is a stop."""
        try:
            yield
        except Exception as error:
            name = self._noted() if is_group_error(error) else None
            if name is None:
                raise
            raise _early(Reason[name]) from error

    def begin_training(self) -> None:
        """From here on there is work to save."""
        self._training = True
        if self._asked.reason is not Reason.NONE:
            self._leave_at_once(self._asked.reason)

    def close(self) -> None:
        """Give the signals back."""
        if self._tell is not None:
            global _listening
            _listening = False
            signal.set_wakeup_fd(-1)
            os.close(self._tell)
            self._tell = None
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _hear(self, number: int, _: FrameType | None) -> None:
        reason, now = _SIGNALS[number], time.monotonic()
        if self._asked.is_second(reason, now):
            os._exit(128 + number)  # what is on disk stays as it is
        if self._asked.take(reason, now) and not self._training:
            self._leave_at_once(reason)

    def _leave_at_once(self, reason: Reason) -> None:
        with suppress(OSError):  # the others will not know why then
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(reason.name, encoding="utf-8")
        raise _early(reason)

    @property
    def _note(self) -> Path:
        return self._run.alive / "left_early"

    def _noted(self) -> str | None:
        """The name of a reason for which a rank left before training."""
        try:
            name = self._note.read_text(encoding="utf-8")
        except OSError:
            return None
        return name if name in Reason.__members__ else None

    def agree(self, save: bool = False, save_failed: bool = False) -> Agreed:
        """Compare notes; collective, after every step.

        Args:
            save: the main rank says whether it is time for a checkpoint.
            save_failed: this rank could not write.
        """
        reason = self._asked.reason
        if self._ranks.is_main:
            reason = max(reason, self._main_reason())
        code = int(reason) * _RANKS + self._ranks.rank if reason else 0
        notes = torch.tensor([code, int(save and self._ranks.is_main), int(save_failed)])
        if self._group is not None:
            dist.all_reduce(notes, dist.ReduceOp.MAX, group=self._group)
        code, save_now, failed = notes.tolist()
        agreed, rank = Reason(code // _RANKS), code % _RANKS
        return Agreed(agreed, self._words(agreed, rank), bool(save_now), bool(failed))

    def _main_reason(self) -> Reason:
        now = time.monotonic()
        if self._deadline is not None and now >= self._deadline:
            return Reason.WALL_TIME
        if now - self._looked < _LOOK_SECONDS:
            return Reason.NONE
        self._looked = now
        try:
            text = self._run.stop_file.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return Reason.NONE
        return Reason.REQUEUE_FILE if text.strip() == "requeue" else Reason.STOP_FILE

    def _words(self, reason: Reason, rank: int) -> str:
        if reason is Reason.NONE:
            return ""
        if reason is Reason.WALL_TIME:
            return "limits.wall_time is over"
        if reason in (Reason.STOP_FILE, Reason.REQUEUE_FILE):
            return f"{self._run.stop_file} was found"
        return f"rank {rank} got {reason.name}"


def _early(reason: Reason) -> Stopped:
    return Stopped(reason, f"{reason.name} before the first step; nothing was to be saved")
