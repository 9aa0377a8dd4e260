"""A port where ranks may meet."""

from __future__ import annotations

import random
import socket

BELOW_OUTGOING = 32768  # Linux gives outgoing connections ports from here on


def free_port() -> int:
    """A port of this host that nothing listens on, outside of those that the kernel hands out itself.

    One of the kernel's own could go to any connection of another test before ranks listen on it.
    """
    drawn = random.SystemRandom()
    while True:
        port = drawn.randrange(10_000, BELOW_OUTGOING)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
