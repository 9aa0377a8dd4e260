"""Hosts with a real sshd each, for tests of several hosts without a scheduler.

Keys, settings and logs are in a private folder; nothing of this machine's own ssh is read or written. The
hosts are those of ``machines``: all that runs on one is gone with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from machines import Machine, Network, missing

REPOSITORY = Path(__file__).resolve().parents[2]

_SERVER = """\
Port 22
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/user_key.pub
PermitRootLogin prohibit-password
PasswordAuthentication no
UsePAM no
StrictModes no
MaxStartups 100
"""
_CLIENT = """\
Host *
  IdentityFile {folder}/user_key
  IdentitiesOnly yes
  StrictHostKeyChecking no
  UserKnownHostsFile /dev/null
  LogLevel ERROR
  BatchMode yes
  ConnectTimeout 10
"""


def missing_for_ssh() -> str | None:
    """Why there can be no hosts with sshd here, or None."""
    return missing("sshd", "ssh", "ssh-keygen", "pdsh")


class SshHosts:
    """Hosts at one switch, each of which may log into all others without a password.

    Attributes:
        folder: everything that is theirs.
        environment: of the commands that :meth:`start` starts on a host.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self.folder = Path(tempfile.mkdtemp(prefix="polyphase-ssh-"))
        self.home = self.folder / "home"
        self.home.mkdir()
        binaries = Path(sys.executable).parent  # of the virtual environment, deepspeed among them
        self.environment = {
            "PATH": f"{binaries}:{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(REPOSITORY),
        }
        # the first name of a network has the switch; it is none of the hosts, so that any cable can be cut
        self._network = Network(self.folder / "hosts", ("switch", *self.names))
        try:
            self._start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> SshHosts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __getitem__(self, name: str) -> Machine:
        return self._network.machines[name]

    def address(self, name: str) -> str:
        """Address of a host."""
        return self._network.addresses[name]

    def start(
        self,
        name: str,
        words: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path = REPOSITORY,
    ) -> subprocess.Popen[bytes]:
        """Start a command on a host; what it prints goes to a file."""
        with log.open("wb") as file:
            return subprocess.Popen(
                # entering the host's view of the files leaves the working directory behind
                self[name].command(["env", f"--chdir={folder}", *words]),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**self.environment, **(environment or {})},
                start_new_session=True,
            )

    def running(self, name: str, part: str) -> list[str]:
        """Command lines on a host that have ``part`` in them."""
        lines = self[name].run("ps", "-eo", "args", "--no-headers").stdout.splitlines()
        return [line for line in lines if part in line and not line.startswith("ps ")]

    def cut_cable(self, name: str) -> None:
        """From now on nothing comes from or to a host; its files stay shared."""
        self._network.cut_cable(name)

    def mend_cable(self, name: str) -> None:
        """Join it again."""
        self._network.mend_cable(name)

    def close(self) -> None:
        """Take everything down."""
        self._network.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        for key in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.folder / key)]
            subprocess.run(command, check=True, timeout=60)
        server, client = self.folder / "sshd_config", self.folder / "ssh_config"
        server.write_text(_SERVER.format(folder=self.folder), encoding="utf-8")
        client.write_text(_CLIENT.format(folder=self.folder), encoding="utf-8")
        sshd = shutil.which("sshd", path=self.environment["PATH"])
        self._network.start("switch")
        for name in self.names:
            host = self._network.start(name)
            # sshd leaves its privileges there, and ssh reads the settings of this machine and this user
            host.run("mount", "-t", "tmpfs", "none", "/run")
            host.run("mkdir", "-m", "755", "/run/sshd")
            host.run("mount", "--bind", str(client), "/etc/ssh/ssh_config")
            own = Path("~root/.ssh").expanduser()
            if own.is_dir():
                host.run("mount", "-t", "tmpfs", "none", str(own))
            host.run(str(sshd), "-f", str(server), "-E", str(self.folder / f"sshd.{name}.log"))
