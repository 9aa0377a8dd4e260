"""Which network interface the ranks of several hosts see each other through."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

import psutil

#: Who reads which variable; both take a list of names.
VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True)
class Interface:
    """A network interface of this host, with its IPv4 address."""

    name: str
    address: str


def interface_to(master: str) -> Interface | None:
    """The interface that leads to the host of rank 0, or by which others reach it if this is that host.

    Returns:
        None if the name is unknown here, no way leads there, or it is the loopback.
    """
    own = _own_interfaces()
    try:
        address = socket.gethostbyname(master)
        if address not in own:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
                probe.connect((address, 9))  # sends nothing
                address = probe.getsockname()[0]
    except OSError:
        return None
    if address.startswith("127.") or address not in own:
        return None
    return Interface(own[address], address)


def choose_interface() -> None:
    """Let gloo and NCCL use the interface that leads to ``MASTER_ADDR``, unless the user chose one.

    Gloo takes the address that the host's own name leads to, which on many systems is the loopback;
    NCCL takes the first interface that it finds, which may be a bridge of a container program.
    """
    found = interface_to(os.environ.get("MASTER_ADDR", ""))
    for variable in VARIABLES if found else ():
        os.environ.setdefault(variable, str(found and found.name))


def own_address() -> str | None:
    """The address at which the other hosts' ranks reach this one; None if it is not clear."""
    for variable in VARIABLES:
        for name in os.environ.get(variable, "").split(","):
            for address, one in _own_interfaces().items():
                if one == name.lstrip("="):
                    return address
    found = interface_to(os.environ.get("MASTER_ADDR", ""))
    return found.address if found else None


def _own_interfaces() -> dict[str, str]:
    """Names by IPv4 address."""
    return {
        one.address: name
        for name, addresses in psutil.net_if_addrs().items()
        for one in addresses
        if one.family == socket.AF_INET
    }
