"""Peers as their signs of life show them: who is lost, and who keeps the others waiting.

No two hosts' clocks are compared. A peer is silent for as long as *this* rank has seen no new sign; time in
which this rank itself stood still, as when a job is suspended, does not count.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from trainer.watchdog import signs
from trainer.watchdog.network import Network
from trainer.watchdog.signs import Identity, Sign, State

#: An error that all ranks meet is raised on all; only then it is one rank's alone.
_FAILED_HEARTBEATS = 2.0


@dataclass(frozen=True)
class Verdict:
    """Why this rank cannot go on.

    Attributes:
        words: names ranks and hosts, for the user.
        culprits: the ranks that are to blame, as far as it is known.
    """

    words: str
    culprits: list[int]


@dataclass
class _Seen:
    """What is known of one peer."""

    identity: Identity
    sign: Sign | None = None
    changed: object = None
    silent: float = 0.0  # seconds
    failed: float = 0.0  # seconds since its failure was seen


@dataclass
class Peers:
    """The peers of one rank in one attempt.

    A rank reads the files of its own host's ranks and of the first rank of every other host: what befalls
    a rank is seen on its host and passed on, so that files read do not grow with the square of ranks.
    """

    folder: Path
    token: str
    me: Identity
    everybody: Sequence[Identity]
    stall_seconds: float
    heartbeat_seconds: float
    network: Network | None = None
    _seen: dict[int, _Seen] = field(init=False)

    def __post_init__(self) -> None:
        self._seen = {rank: _Seen(self.everybody[rank]) for rank in self._watched()}

    def _watched(self) -> list[int]:
        first_of_host: dict[str, int] = {}
        for one in self.everybody:
            first_of_host.setdefault(one.host, one.rank)
        return [
            one.rank
            for one in self.everybody
            if one.rank != self.me.rank
            and (one.host == self.me.host or first_of_host[one.host] == one.rank)
        ]

    def look(self, elapsed: float, at_once: bool = False) -> Verdict | None:
        """Read the peers' files, ``elapsed`` seconds after the last look; whether one is lost.

        Args:
            at_once: a peer's error counts now, though this rank might still meet the same.
        """
        lost = []
        for peer in self._seen.values():
            gone = peer.identity.is_gone(self.me)  # before reading: its last sign counts
            self._read(peer, elapsed)
            verdict = self._judge(peer, gone, at_once)
            if verdict is not None:
                lost.append(verdict)
        return _combined(lost)

    def everybody_left(self) -> bool:
        """Whether no rank of this host is running any more, apart from this one."""
        for peer in self._seen.values():
            if peer.identity.host == self.me.host and not peer.identity.is_gone(self.me):
                self._read(peer, 0.0)
                if peer.sign is None or peer.sign.state is State.running:
                    return False
        return True

    def _read(self, peer: _Seen, elapsed: float) -> None:
        found = signs.read(self.folder, peer.identity.rank, self.token)
        peer.silent += elapsed
        peer.failed += elapsed
        if found is None:
            return
        sign, time_of_change = found
        changed = (sign.beat, sign.state, time_of_change)
        if changed != peer.changed:
            if peer.sign is None or peer.sign.state is not State.failed:
                peer.failed = 0.0
            peer.sign, peer.changed, peer.silent = sign, changed, 0.0

    def _judge(self, peer: _Seen, gone: bool, at_once: bool) -> Verdict | None:
        sign, culprits = peer.sign, [peer.identity.rank]
        if sign is not None and sign.state is State.done:
            return None
        if sign is not None and sign.state is State.lost:
            return Verdict(sign.words, sign.culprits)
        if sign is not None and sign.state is State.failed:
            if not at_once and peer.failed < _FAILED_HEARTBEATS * self.heartbeat_seconds:
                return None
            words = (
                f"{peer.identity} ended with an error at '{sign.place}': {sign.words.rstrip('.')}."
            )
            return Verdict(words, culprits)
        if gone:
            return Verdict(
                f"{peer.identity} is gone: its process does not exist any more. {_last(peer)}",
                culprits,
            )
        if peer.silent >= self.stall_seconds:
            exists = ""
            if peer.identity.pid_space == self.me.pid_space != "":
                exists = "; its process exists"
            return Verdict(
                f"{peer.identity} has given no sign of life for {peer.silent:.0f} s{exists}. "
                f"{_last(peer)}",
                culprits,
            )
        return None

    def cut_off(self) -> Verdict | None:
        """Whether hosts that answered over the network at the start do so no more."""
        broken = None if self.network is None else self.network.broken()
        if broken is None:
            return None
        words, hosts = broken
        return Verdict(words, [one.rank for one in self.everybody if one.host in hosts])

    def stalled(self, mine: Sign) -> Verdict:
        """Who keeps the others waiting, now that nothing moves; reads every rank's file."""
        cut_off = self.cut_off()
        if cut_off is not None:
            return cut_off
        running = [mine]
        unheard = []
        for one in self.everybody:
            if one.rank == self.me.rank:
                continue
            found = signs.read(self.folder, one.rank, self.token)
            if found is None:
                unheard.append(one)
            elif found[0].state is State.lost:  # it was quicker to find out
                return Verdict(found[0].words, found[0].culprits)
            elif found[0].state is State.running:
                running.append(found[0])
        if unheard and all(one.waits for one in running):
            names = ", ".join(map(str, unheard))
            return Verdict(
                f"no progress, and no sign of life of {names}.", [one.rank for one in unheard]
            )
        held = culprits_of(running)
        if held:
            places = "; ".join(f"{one.identity} is at {one.whereabouts()}" for one in held)
            return Verdict(f"no progress: {places}.", [one.identity.rank for one in held])
        places = "; ".join(f"{one.identity} is at {one.whereabouts()}" for one in running)
        return Verdict(f"no progress, and no rank stands out: {places}.", [])


def culprits_of(running: Sequence[Sign]) -> list[Sign]:
    """The ranks that the others wait for; none if they cannot be told apart.

    Those that do not wait for others themselves. Where all seem to wait, or none does (with NCCL a rank
    waits for the device, which no line of code shows), those that have come least far.
    """
    working = [one for one in running if not one.waits]
    if not 0 < len(working) < len(running):
        if len(running) > 1 and len({one.number for one in running}) == 1:
            return []
        working = list(running)
    least = min(one.number for one in working)
    return [one for one in working if one.number == least]


def _last(peer: _Seen) -> str:
    if peer.sign is None:
        return "It never gave one." if peer.silent else ""
    return f"Its last sign of life was at {peer.sign.whereabouts()}."


def _combined(lost: Iterable[Verdict]) -> Verdict | None:
    """One verdict of several; ranks that pass on what another says say it once."""
    words, culprits = dict[str, None](), dict[int, None]()
    for one in lost:
        words[one.words] = None
        culprits.update(dict.fromkeys(one.culprits))
    return Verdict(" ".join(words), list(culprits)) if words else None
