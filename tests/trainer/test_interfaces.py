"""The interface by which hosts see each other."""

from __future__ import annotations

import os
import socket

import psutil
import pytest

from trainer.interfaces import VARIABLES, Interface, choose_interface, interface_to, own_address

OWN = [
    Interface(name, one.address)
    for name, addresses in psutil.net_if_addrs().items()
    for one in addresses
    if one.family == socket.AF_INET and not one.address.startswith("127.")
]


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, "MASTER_ADDR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # choose_interface sets some


def test_loopback_and_unknown_names_lead_nowhere() -> None:
    assert interface_to("127.0.0.1") is None
    assert interface_to("localhost") is None
    assert interface_to("no-such-host.invalid") is None


@pytest.mark.skipif(not OWN, reason="this machine has no network interface but the loopback")
def test_the_own_address_is_found_at_its_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    for one in OWN:
        assert interface_to(one.address) == one
    monkeypatch.setenv("MASTER_ADDR", OWN[0].address)
    assert own_address() == OWN[0].address
    choose_interface()
    assert [os.environ.get(name) for name in VARIABLES] == [OWN[0].name] * 2


def test_the_users_choice_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "=lo,none")
    monkeypatch.setenv("MASTER_ADDR", OWN[0].address if OWN else "127.0.0.1")
    choose_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "=lo,none"
    assert own_address() == "127.0.0.1"


def test_nothing_is_chosen_where_nothing_is_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    choose_interface()
    assert not set(VARIABLES) & os.environ.keys()
    assert own_address() is None
