"""Whether the other hosts still answer over the network, where ranks stand still and nobody tells why.

Signs of life go by the file system, which another network may carry than the one between the ranks. So
every host keeps a port open that takes connections and nothing else; a host that answered at the start of
the run and does not any more is cut off.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from trainer.interfaces import own_address

#: A cable that is cut shows by silence; the second packet of a connection goes out after one second.
_ANSWER_SECONDS = 3.0
_PROBES_AT_ONCE = 32
#: Nobody takes the connections out of the queue: the kernel has answered, and that is all there is to know.
_QUEUE = 4096


@dataclass(frozen=True)
class Post:
    """Where a host answers; without a port it does not say."""

    host: str
    address: str = ""
    port: int = 0


class OwnPost:
    """The open port of this host."""

    def __init__(self, host: str) -> None:
        self._socket: socket.socket | None = None
        self.post = Post(host)
        address = own_address()
        if address is not None:
            with contextlib.suppress(OSError):
                self._socket = socket.create_server((address, 0), backlog=_QUEUE)
                self.post = Post(host, address, self._socket.getsockname()[1])

    def close(self) -> None:
        """Answer no more."""
        if self._socket is not None:
            self._socket.close()


class Network:
    """What this host knows of the others: who answered at the start, and who does now."""

    def __init__(self, own_host: str, posts: Iterable[Post]) -> None:
        self._own_host = own_host
        self._others = [one for one in posts if one.host != own_host and one.port]
        self._answered: list[Post] = []
        if self._others:
            # an address that never could be reached is no reason to wait here
            threading.Thread(target=self._begin, name="network", daemon=True).start()

    def _begin(self) -> None:
        silent = self._silent(self._others)
        self._answered = [one for one in self._others if one not in silent]

    def broken(self) -> tuple[str, list[str]] | None:
        """What is wrong with the network between the hosts, in words, and the hosts that are cut off.

        Takes a few seconds where somebody does not answer. None if all answer that ever did.
        """
        silent = self._silent(self._answered)
        if not silent:
            return None
        names = ", ".join(f"{one.host} ({one.address})" for one in silent)
        if len(silent) == len(self._answered) > 1:
            words = f"host {self._own_host} is cut off from the network: it reaches none of {names}"
            return f"{words} any more, though signs of life still come by files.", [self._own_host]
        hosts = "hosts" if len(silent) > 1 else "host"
        words = (
            f"the network to {hosts} {names} is gone: no answer to host {self._own_host} any more"
        )
        return f"{words}, though signs of life still come by files.", [one.host for one in silent]

    def _silent(self, posts: list[Post]) -> list[Post]:
        if not posts:
            return []
        with ThreadPoolExecutor(min(len(posts), _PROBES_AT_ONCE)) as pool:
            answers = list(pool.map(_answers, posts))
        return [one for one, answer in zip(posts, answers, strict=True) if not answer]


def _answers(post: Post) -> bool:
    """Whether a host's kernel does; a port that was closed meanwhile is an answer too."""
    try:
        socket.create_connection((post.address, post.port), _ANSWER_SECONDS).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True
