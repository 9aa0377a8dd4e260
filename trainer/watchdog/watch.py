"""The watchdog of a rank: a thread that gives signs of life, reads its peers' and judges progress.

It ends this process with exit code ``LOST_RANK`` and a message that names rank and host, where

- a peer's process is gone, or a peer left with an error of its own (within two or three heartbeats);
- a peer gives no sign of life for ``cluster.stall_timeout_s``: its host is down, or it stands still;
- the main thread stays at one place for that long: somebody keeps the ranks waiting, and is named;
- a collective raised, and the signs of life or the network tell why.

A main thread that keeps the interpreter's lock stops this thread too; its peers see that, and a timer of
``faulthandler``, which needs no lock, ends the process a little later.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import torch.distributed as dist

from data_modules.faults import UserFault
from trainer.config.schema import ClusterConfig
from trainer.distributed import Ranks
from trainer.exit_codes import LOST_RANK
from trainer.run_directory import RunDirectory
from trainer.watchdog import places, signs, stacks
from trainer.watchdog.group_errors import is_group_error, is_timeout
from trainer.watchdog.network import Network, OwnPost, Post
from trainer.watchdog.peers import Peers, Verdict
from trainer.watchdog.signs import Identity, Sign, State

#: Heartbeats that a rank which leaves, or met a failed collective, gives the others to speak.
_PATIENCE = 3.0

_current: Watchdog | None = None


@contextlib.contextmanager
def watching(
    run: RunDirectory,
    ranks: Ranks,
    config: ClusterConfig,
    agreed: tuple[type[BaseException], ...] = (UserFault,),
) -> Iterator[None]:
    """Watch over this rank and its peers; entered and left by all ranks alike, in a process group.

    An error of a collective that is explained by a lost peer ends the process here.

    Args:
        agreed: what all ranks raise together; a rank that leaves with another error is lost to its peers.
    """
    global _current
    watchdog = _current = Watchdog(run, ranks, config)
    try:
        yield
    except agreed:
        watchdog.close(State.done)
        raise
    except BaseException as error:
        verdict = watchdog.explain(error)
        if verdict is not None:
            watchdog.log(traceback.format_exc())
            watchdog.leave(verdict)
        watchdog.close(State.failed, f"{type(error).__name__}: {error}".splitlines()[0])
        raise
    else:
        watchdog.close(State.done)
    finally:
        _current = None


def explain_lost(error: BaseException) -> str | None:
    """Which rank's end or stall an error of a collective comes from; None if it is another error.

    Waits for the peers' signs of life to tell, up to three heartbeats. Within :func:`watching`, which asks
    this itself about errors that reach it.
    """
    verdict = None if _current is None else _current.explain(error)
    return None if verdict is None else verdict.words


class Watchdog:
    """Signs of life and judgement of one rank; its thread runs from here to :meth:`close`."""

    def __init__(self, run: RunDirectory, ranks: Ranks, config: ClusterConfig) -> None:
        places.at("starting")
        self._folder, self._world_size = run.alive, ranks.world_size
        self._log_file, self._stacks_file = run.log(ranks.rank), run.stacks(ranks.rank)
        self._heartbeat, self._stall = config.heartbeat_s, config.stall_s
        self._me = Identity.of_this_process(ranks.rank)
        self._own_post = OwnPost(self._me.host) if ranks.local_rank == 0 else None
        everybody, posts, self._token = _meet(self._me, self._own_post, ranks)
        self._peers = Peers(
            *(self._folder, self._token, self._me, everybody, self._stall, self._heartbeat),
            Network(self._me.host, posts),
        )
        self._looking, self._leaving = threading.Lock(), threading.Lock()
        self._writing = threading.Lock()
        self._beats = 0
        self._complained = False
        self._closing = threading.Event()
        if ranks.is_main:
            self._clear_earlier()
        self._stacks_file.parent.mkdir(parents=True, exist_ok=True)
        self._stacks = self._stacks_file.open("a", encoding="utf-8")
        self._beat(State.running)
        self._arm(self._stall)
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def close(self, state: State, words: str = "") -> None:
        """Stop watching and tell the peers why: no silence from here on means anything."""
        self._closing.set()
        self._thread.join()  # it ends within a look, or ends the process
        faulthandler.cancel_dump_traceback_later()
        self._stacks.close()
        if self._own_post is not None:
            self._own_post.close()
        with contextlib.suppress(OSError):
            if not self._stacks_file.stat().st_size:
                self._stacks_file.unlink()
        self._beat(state, words)

    def explain(self, error: BaseException) -> Verdict | None:
        """See :func:`explain_lost`."""
        if self._world_size == 1 or not is_group_error(error):
            return None
        until = time.monotonic() + _PATIENCE * self._heartbeat
        while True:
            verdict = self._look(0.0, at_once=True)
            if verdict is not None or time.monotonic() >= until:
                break
            time.sleep(min(0.1, self._heartbeat))
        if verdict is None:
            verdict = self._peers.cut_off()
        if verdict is None and is_timeout(error):
            # this rank did wait, whatever line it is at now
            verdict = self._peers.stalled(self._sign(State.running, waits=True))
        return verdict

    def leave(self, verdict: Verdict, stalled: bool = False) -> NoReturn:
        """Tell the user and the peers, and end the process.

        Args:
            stalled: this rank found out by its own standstill: its stacks go to standard error too.
        """
        self._leaving.acquire()  # for good: the first to come ends the process
        self._arm(2 * _PATIENCE * self._heartbeat)  # should any of this get stuck
        self._beat(State.lost, verdict.words, verdict.culprits)
        message = (
            f"polyphase: {verdict.words} All ranks leave, with exit code {LOST_RANK}; where each of "
            f"them was is in {self._stacks_file.parent}/rank_*.stacks.txt."
        )
        self.log(message)
        with contextlib.suppress(OSError):
            stacks.dump(self._stacks_file, message)
        if self._first_on_host():
            _to_stderr(f"{message}\n")
        if stalled or self._me.rank in verdict.culprits:
            _to_stderr(f"polyphase: stacks of {self._me}:\n")
            with contextlib.suppress(OSError):
                faulthandler.dump_traceback(2, all_threads=True)
        # A launcher kills the others once one has left; they are to tell their part first.
        until = time.monotonic() + _PATIENCE * self._heartbeat
        while time.monotonic() < until and not self._peers.everybody_left():
            time.sleep(min(0.05, self._heartbeat))
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(LOST_RANK)

    def log(self, text: str) -> None:
        """Add to the rank's log; past ``logging``, whose locks a stuck main thread may hold."""
        moment = time.strftime("%Y-%m-%d %H:%M:%S")
        with contextlib.suppress(OSError), self._log_file.open("a", encoding="utf-8") as file:
            file.write(f"{moment},000 ERROR {text}\n")

    def _watch(self) -> None:
        before, stuck, number = time.monotonic(), 0.0, -1
        while not self._closing.wait(self._heartbeat):
            now = time.monotonic()
            # a process that was suspended has not been waiting
            elapsed = min(now - before, 2 * self._heartbeat)
            before = now
            here = places.here()
            stuck = 0.0 if here.number != number or here.paused else stuck + elapsed
            number = here.number
            try:
                self._arm(self._stall)
                self._beat(State.running)
                verdict = self._look(elapsed)
                stalled = verdict is None and stuck >= self._stall
                if stalled:
                    verdict = self._peers.stalled(self._sign(State.running))
            except Exception:  # whatever it is, a watchdog must go on
                self._complain(traceback.format_exc())
                continue
            if verdict is not None and not self._closing.is_set():
                self.leave(verdict, stalled)

    def _look(self, elapsed: float, at_once: bool = False) -> Verdict | None:
        with self._looking:
            return self._peers.look(elapsed, at_once)

    def _arm(self, seconds: float) -> None:
        """(Re)start the timer that needs no interpreter; peers have spoken before it fires."""
        # One rank alone has nobody to point to its file.
        file = self._stacks if self._world_size > 1 else 2
        limit = seconds + _PATIENCE * self._heartbeat
        faulthandler.dump_traceback_later(limit, exit=True, file=file)

    def _beat(self, state: State, words: str = "", culprits: list[int] | None = None) -> None:
        with self._writing:
            if state is State.running and self._leaving.locked():
                return  # the main thread leaves; this one must not say otherwise
            self._beats += 1
            try:
                signs.write(self._folder, self._sign(state, words, culprits))
            except OSError as error:
                self._complain(f"the sign of life cannot be written: {error}")

    def _sign(
        self,
        state: State,
        words: str = "",
        culprits: list[int] | None = None,
        waits: bool = False,
    ) -> Sign:
        here = places.here()
        where, in_collective = stacks.main_thread()
        return Sign(
            identity=self._me,
            token=self._token,
            beat=self._beats,
            state=state,
            words=words,
            culprits=culprits or [],
            place=here.words,
            seconds=round(time.monotonic() - here.since, 3),
            number=here.number,
            paused=here.paused,
            where=where,
            waits=waits or here.waits or in_collective,
            time=time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        )

    def _complain(self, text: str) -> None:
        """Write a fault of the watchdog's own into the log, once."""
        if not self._complained:
            self._complained = True
            self.log(f"watchdog: {text}")

    def _first_on_host(self) -> bool:
        """Whether no other rank of this host has told the user yet."""
        try:
            self._told(self._me.host).touch(exist_ok=False)
        except FileExistsError:
            return False
        except OSError:  # better twice than never
            return True
        return True

    def _told(self, host: str) -> Path:
        return self._folder / f"told_{host}_{self._token}"

    def _clear_earlier(self) -> None:
        """Remove what earlier attempts left and this one does not overwrite."""
        for path in self._folder.glob("*"):
            number = path.stem.removeprefix("rank_")
            told = path.name.startswith("told_") and not path.name.endswith(self._token)
            if told or (number.isdigit() and int(number) >= self._world_size):
                path.unlink(missing_ok=True)


def _meet(
    me: Identity, own_post: OwnPost | None, ranks: Ranks
) -> tuple[list[Identity], list[Post], str]:
    """Who the ranks are, where their hosts answer, and a word for this attempt that tells its files
    from earlier ones; collective."""
    post = None if own_post is None else own_post.post
    everybody: list[tuple[Identity, Post | None, str]] = [(me, post, os.urandom(8).hex())]
    if ranks.world_size > 1:
        everybody *= ranks.world_size
        dist.all_gather_object(everybody, everybody[ranks.rank])
    identities, posts, words = zip(*everybody, strict=True)
    return list(identities), [one for one in posts if one is not None], words[0]


def _to_stderr(text: str) -> None:
    """Past ``sys.stderr``, whose lock a stuck main thread may hold."""
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
