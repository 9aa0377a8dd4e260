"""A run on the hosts of a hostfile, by ``deepspeed`` over ssh."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from data_modules.faults import ConfigFault, Fault
from launch.submission import local
from launch.submission.job import TRAIN, own_environment
from trainer.config.schema import ClusterConfig
from trainer.exit_codes import LOST_RANK
from trainer.run_directory import RunDirectory

#: ssh's own exit code where it lost a host; ``deepspeed`` ends with the largest of all hosts' codes.
_SSH_LOST = 255
#: Answers of a host that may stay away before ssh gives it up.
_MISSED = 3
_LINE = re.compile(r"(?P<host>\S+)\s+slots=(?P<slots>\d+)")


def hosts(cluster: ClusterConfig) -> dict[str, int]:
    """Ranks by host, in the order of the hostfile.

    Raises:
        ConfigFault: a line of it cannot be read, or it names no host.
    """
    assert cluster.hostfile is not None, "validation holds this"
    found: dict[str, int] = {}
    faults = []
    for number, written in enumerate(Path(cluster.hostfile).read_text("utf-8").splitlines(), 1):
        line = written.split("#")[0].strip()
        match = _LINE.fullmatch(line)
        if match and int(match["slots"]) and match["host"] not in found:
            found[match["host"]] = int(match["slots"])
        elif line:
            rule = "a line is 'NAME slots=N', every host once"
            faults.append(Fault(f"{cluster.hostfile}:{number}", line, rule))
    if not found and not faults:
        faults = [Fault("cluster.hostfile", f"{cluster.hostfile} is empty", "it lists the hosts")]
    if faults:
        raise ConfigFault(faults)
    return found


def command(overrides: Sequence[str], cluster: ClusterConfig) -> list[str]:
    """What is started here; ``deepspeed`` starts the rest."""
    port = () if cluster.master_port is None else (f"--master_port={cluster.master_port}",)
    deepspeed = Path(sys.executable).with_name("deepspeed")
    words = [remote_word(one) for one in overrides]
    return [str(deepspeed), f"--hostfile={cluster.hostfile}", *port, str(TRAIN), *words]


def remote_word(word: str) -> str:
    """A word as it comes through ``deepspeed``, pdsh and a shell on every host unchanged.

    ``deepspeed`` itself puts words with blanks between double quotes, and minds no other sign.
    """
    word = word.replace("%", "%%")  # pdsh's own
    return re.sub(r"([\\$`])", r"\\\1", word) if " " in word else shlex.quote(word)


def handed_on(environment: dict[str, str]) -> str:
    """The file by which ``deepspeed`` hands variables on; it leaves to a shell what is in the values."""
    lines = []
    for name, value in environment.items():
        escaped = re.sub(r'([\\$`"])', r"\\\1", value).replace("%", "%%")
        lines.append(f"{name}={escaped}\n")
    return "".join(lines)


def run_on_hosts(overrides: Sequence[str], cluster: ClusterConfig, run: Path) -> int:
    """Train on all hosts and wait for the end.

    ``deepspeed`` hands on few variables by itself; those of ``cluster.environment`` go by a file. ssh gives
    a host that does not answer up when the ranks do, or this command would wait for it for hours.

    Returns:
        the launcher's exit code; LOST_RANK where the ranks say so and ssh lost the host too.
    """
    file = run / "deepspeed_environment"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(handed_on(cluster.environment), encoding="utf-8")
    environment = own_environment() | cluster.environment | {"DS_ENV_FILE": str(file)}
    seconds = max(1, round(cluster.stall_s / _MISSED))
    alive = f"-o ServerAliveInterval={seconds} -o ServerAliveCountMax={_MISSED}"
    given = environment.get("PDSH_SSH_ARGS_APPEND", "")
    environment["PDSH_SSH_ARGS_APPEND"] = f"{given} {alive}".strip()
    started = time.time()
    words = command(overrides, cluster)
    code = local.wait_for(subprocess.Popen(words, env=environment))
    return LOST_RANK if code == _SSH_LOST and _lost(run, started) else code


def _lost(run: Path, started: float) -> bool:
    """Whether a rank of this attempt left because another was lost."""
    for path in RunDirectory(run).alive.glob("rank_*.json"):
        try:
            if path.stat().st_mtime >= started and json.loads(path.read_text())["state"] == "lost":
                return True
        except (OSError, ValueError, KeyError):
            continue
    return False
