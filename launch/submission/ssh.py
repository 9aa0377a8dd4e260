"""A run on the hosts of a hostfile, by ``deepspeed`` over ssh."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from data_modules.faults import ConfigFault, Fault
from launch.submission.job import TRAIN, own_environment
from trainer.config.schema import ClusterConfig

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
    return [str(deepspeed), f"--hostfile={cluster.hostfile}", *port, str(TRAIN), *overrides]


def run_on_hosts(overrides: Sequence[str], cluster: ClusterConfig, run: Path) -> int:
    """Train on all hosts and wait for the end.

    ``deepspeed`` hands on few variables by itself; those of ``cluster.environment`` go by a file.

    Returns:
        the launcher's exit code.
    """
    handed_on = run / "deepspeed_environment"
    handed_on.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{name}={value}\n" for name, value in cluster.environment.items()]
    handed_on.write_text("".join(lines), encoding="utf-8")
    environment = own_environment() | cluster.environment | {"DS_ENV_FILE": str(handed_on)}
    return subprocess.run(command(overrides, cluster), env=environment, check=False).returncode
