"""Machines for tests of several hosts: namespaces of this one, joined by cables that can be cut.

A machine is a process that waits, in network, host name, mount and process namespaces of its own; what
runs in it sees its host name, its address, its ``/etc/hosts`` and its processes. Files are those of this
machine, as on a cluster with a shared file system.

Nothing outlives the tests: the process is the first one of its namespace, so all others die with it, and
it ends when it loses the pipe to the process that made it, however that one ended. Namespaces have no
names that could be taken, and cables are gone with their ends. It needs root, util-linux and iproute2.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

_UNSHARE = ("unshare", "--net", "--uts", "--mount", "--pid", "--fork", "--mount-proc", "--")
#: Ends with its input. Whoever loses his parent becomes its child, and is not kept once he has ended.
_FIRST = """
exec 2>&1
hostname "$1" && mount --bind "$2" /etc/hosts && ip link set lo up || exit 1
trap '' CHLD
echo ready
exec cat
"""
_PROBE = """
ip link add name eth0 type bridge && ip link add name one type veth peer name two &&
ip link set one master eth0
"""


def missing(*commands: str) -> str | None:
    """Why no machines can be made here, or none that run these commands; None if they can."""
    if os.geteuid() != 0:
        return "needs root: namespaces of their own"
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    for name in ("unshare", "nsenter", "ip", *commands):
        if shutil.which(name, path=path) is None:
            return f"needs the command {name}"
    probe = ("unshare", "--net", "--uts", "--mount", "--pid", "--fork", "sh", "-c", _PROBE)
    done = subprocess.run(probe, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        return f"needs namespaces and bridges: {done.stderr.strip() or done.stdout.strip()}"
    return None


def wait_until(condition: Callable[[], bool], timeout: float, what: Callable[[], str]) -> None:
    """Look five times a second until a condition holds.

    Raises:
        TimeoutError: it did not in time; with what there is to see then.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            raise TimeoutError(f"after {timeout:g} s: {what()}")
        time.sleep(0.2)


def _process_namespace(pid: int) -> str | None:
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:  # it has ended
        return None


class Machine:
    """One machine, up until it is killed.

    Args:
        hosts: file that it sees as ``/etc/hosts``.
    """

    def __init__(self, name: str, hosts: Path) -> None:
        self.name = name
        self._outer = subprocess.Popen(
            [*_UNSHARE, "sh", "-c", _FIRST, "sh", name, str(hosts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # unshare finds fault with its signals once it is done
            start_new_session=True,  # a Ctrl-C is for pytest, which then takes it down
        )
        assert self._outer.stdout is not None
        told = self._outer.stdout.readline()
        assert told == b"ready\n", f"{name} did not start: {told.decode()}"
        (first,) = psutil.Process(self._outer.pid).children()
        self.first_pid: int = first.pid

    def command(self, words: Sequence[str], folder: Path = Path("/")) -> list[str]:
        """The command line that runs a command in here."""
        entered = ["nsenter", f"--target={self.first_pid}", "--net", "--uts", "--mount", "--pid"]
        # nsenter itself leaves the folder that it was started in
        return [*entered, "--", "env", f"--chdir={folder}", *words]

    def run(
        self,
        *words: str,
        environment: Mapping[str, str] | None = None,
        folder: Path = Path("/"),
        timeout: float = 60,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in here and wait for its end.

        Raises:
            RuntimeError: it failed and ``check`` is set; with what it wrote.
        """
        done = subprocess.run(
            self.command(words, folder),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            check=False,
        )
        if check and done.returncode != 0:
            told = f"{done.stdout}{done.stderr}".strip()
            raise RuntimeError(f"{self.name}: {' '.join(words)}: code {done.returncode}: {told}")
        return done

    def processes(self) -> list[psutil.Process]:
        """What runs in it, as this machine sees it; ``info`` of each has its command line."""
        mine, all_here = _process_namespace(self.first_pid), psutil.process_iter(["cmdline"])
        return [one for one in all_here if _process_namespace(one.pid) == mine]

    @property
    def is_up(self) -> bool:
        """Whether it runs."""
        return self._outer.poll() is None

    def kill(self) -> None:
        """Everything in it is gone at once, as when its power fails; returns when it is."""
        if self.is_up:
            os.kill(self.first_pid, 9)
        self._outer.wait(60)
        for pipe in (self._outer.stdin, self._outer.stdout):
            if pipe is not None:
                pipe.close()


class Network:
    """Machines at one switch; the first one has the switch.

    Args:
        hosts: file to write their names and addresses to.
        names: the machines, with the addresses 10.77.0.1, .2 and so on.
    """

    def __init__(self, hosts: Path, names: Sequence[str]) -> None:
        self.addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, 1)}
        self.machines: dict[str, Machine] = {}
        self._hosts, self._switch = hosts, names[0]
        lines = [f"{address} {name}\n" for name, address in self.addresses.items()]
        hosts.write_text("127.0.0.1 localhost\n" + "".join(lines), encoding="utf-8")

    def start(self, name: str) -> Machine:
        """Start a machine, for the first time or after it was killed."""
        assert name not in self.machines or not self.machines[name].is_up
        machine = self.machines[name] = Machine(name, self._hosts)
        address = f"{self.addresses[name]}/24"
        if name == self._switch:
            machine.run("ip", "link", "add", "eth0", "type", "bridge")
        else:
            switch = self.machines[self._switch]
            plug = ("link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0")
            switch.run(
                "ip", "link", "del", f"to-{name}", check=False
            )  # of a machine that was killed
            # not by switch.run: a process is named by the number that this machine knows it by
            into = f"--net=/proc/{switch.first_pid}/ns/net"
            command = ["nsenter", into, "ip", *plug, "netns", str(machine.first_pid)]
            subprocess.run(command, check=True, timeout=60)
            switch.run("ip", "link", "set", f"to-{name}", "master", "eth0", "up")
        machine.run("ip", "addr", "add", address, "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")
        return machine

    def cut_cable(self, name: str) -> None:
        """From now on nothing comes from or to a machine."""
        self.machines[self._switch].run("ip", "link", "set", f"to-{name}", "down")

    def mend_cable(self, name: str) -> None:
        """Join it again."""
        self.machines[self._switch].run("ip", "link", "set", f"to-{name}", "up")

    def close(self) -> None:
        """Kill all machines."""
        for machine in reversed(self.machines.values()):
            machine.kill()
