"""Machines of the cluster's tests: apart from each other, gone with whoever made them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from machines import Network, missing, wait_until

pytestmark = pytest.mark.cluster

_MAKE = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from machines import Network
network = Network(Path(sys.argv[2]), ("a", "b"))
network.start("a")
network.start("b").run("sh", "-c", "sleep 3600 >/dev/null 2>&1 &")
print(*[one.pid for name in "ab" for one in network.machines[name].processes()], flush=True)
time.sleep(3600)
"""


@pytest.fixture(autouse=True)
def _possible() -> None:
    reason = missing()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path / "hosts", ("a", "b", "c"))
    try:
        for name in network.addresses:
            network.start(name)
        yield network
    finally:
        network.close()


def reaches(network: Network, origin: str, target: str) -> bool:
    """Whether a machine gets an answer: here, that nobody listens at that port."""
    program = f"import socket; socket.create_connection(({target!r}, 9), 1)"
    done = network.machines[origin].run(sys.executable, "-c", program, check=False)
    return "ConnectionRefusedError" in done.stderr


def test_each_is_a_host_of_its_own(network: Network) -> None:
    for name, machine in network.machines.items():
        assert machine.run("hostname").stdout == f"{name}\n" != socket.gethostname()
        assert machine.run("sh", "-c", "echo $PPID").stdout == "0\n", "started from outside"
        assert len(machine.processes()) == 1
    assert all(reaches(network, one, two) for one in "abc" for two in "abc")


def test_a_cable_is_cut_and_mended(network: Network) -> None:
    network.cut_cable("b")
    assert not reaches(network, "b", "c")
    assert not reaches(network, "a", "b")
    assert reaches(network, "a", "c")
    network.mend_cable("b")
    wait_until(lambda: reaches(network, "b", "c"), 20, lambda: "b is cut off")


def test_one_crashes_and_starts_again(network: Network) -> None:
    machine = network.machines["c"]
    machine.run("sh", "-c", "sleep 3600 >/dev/null 2>&1 &")
    running = machine.processes()
    assert len(running) == 2
    machine.kill()
    assert not any(one.is_running() for one in running)
    assert not reaches(network, "a", "c")
    network.start("c")
    assert reaches(network, "a", "c")


def test_killed_tests_leave_nothing(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _MAKE, str(Path(__file__).parent), str(tmp_path / "hosts")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        pids = [int(one) for one in maker.stdout.readline().split()]
        assert len(pids) == 3
        assert all(psutil.pid_exists(one) for one in pids)
        os.kill(maker.pid, signal.SIGKILL)
    wait_until(lambda: not any(psutil.pid_exists(one) for one in pids), 20, lambda: str(pids))
