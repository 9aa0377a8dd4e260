"""Rules on where a job runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from data_modules.faults import Fault
from trainer.config.rules import at_least
from trainer.config.schema import ClusterConfig, ClusterKind, Config
from trainer.config.times import wall_seconds

_MEMORY = re.compile(r"\d+[KMGT]?")
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
#: Options of ``sbatch`` that other fields or the script itself set.
_OWN = {
    "--array": "sweeps set it",
    "--chdir": "jobs run where they are submitted",
    "--dependency": "cluster.chain sets it",
    "--job-name": "run_name sets it",
    "--nodes": "cluster.nodes sets it",
    "--ntasks": "one task of each node starts its ranks",
    "--ntasks-per-node": "one task of each node starts its ranks",
    "--gpus-per-node": "cluster.gpus_per_node sets it",
    "--cpus-per-task": "cluster.cpus_per_node sets it",
    "--mem": "cluster.memory sets it",
    "--time": "cluster.time sets it",
    "--partition": "cluster.partition sets it",
    "--account": "cluster.account sets it",
    "--qos": "cluster.qos sets it",
    "--constraint": "cluster.constraint sets it",
    "--signal": "cluster.warning_s sets it",
    "--output": "logs lie in the run directory",
    "--error": "logs lie in the run directory",
    "--wrap": "slurm/train.sbatch is the script",
    "--parsable": "submit.py reads the answer",
    "--export": "cluster.environment sets variables",
}


#: Their short forms; a value may follow at once (``-N2``).
_SHORT = {
    **{"-a": "--array", "-D": "--chdir", "-d": "--dependency", "-J": "--job-name", "-N": "--nodes"},
    **{"-n": "--ntasks", "-c": "--cpus-per-task", "-t": "--time", "-p": "--partition"},
    **{"-A": "--account", "-q": "--qos", "-C": "--constraint", "-o": "--output", "-e": "--error"},
}


def cluster_faults(config: Config) -> Iterator[Fault]:
    """Every fault of ``cluster`` but the timeouts."""
    cluster, faults = config.cluster, list[Fault]()
    at_least("cluster.nodes", cluster.nodes, 1, faults)
    at_least("cluster.gpus_per_node", cluster.gpus_per_node, 0, faults)
    at_least("cluster.ranks_per_node", cluster.ranks_per_node, 1, faults)
    at_least("cluster.cpus_per_node", cluster.cpus_per_node, 1, faults)
    at_least("cluster.retries", cluster.retries, 0, faults)
    at_least("cluster.warning_s", cluster.warning_s, 0, faults)
    yield from faults
    yield from _kind(cluster)
    yield from _slurm(cluster)
    for name, value in cluster.environment.items():
        if not _VARIABLE.fullmatch(name):
            rule = "it names an environment variable: letters, digits and _"
            yield Fault("cluster.environment", repr(name), rule)
        if cluster.kind is ClusterKind.ssh and "\n" in value:
            rule = "deepspeed hands variables on one a line"
            yield Fault(f"cluster.environment.{name}", repr(value), rule)
    port = cluster.master_port
    if port is not None and not 1024 <= port <= 65535:
        yield Fault("cluster.master_port", str(port), "a port is between 1024 and 65535")


def _kind(cluster: ClusterConfig) -> Iterator[Fault]:
    if cluster.kind is ClusterKind.local and cluster.nodes > 1:
        rule = "cluster=local is this host alone"
        yield Fault(
            "cluster.nodes", str(cluster.nodes), rule, "Choose cluster=slurm or cluster=ssh."
        )
    if cluster.kind is ClusterKind.ssh:
        if cluster.hostfile is None:
            rule = "cluster=ssh starts ranks on the hosts that it lists"
            remedy = "Set cluster.hostfile=FILE with a line 'NAME slots=N' for each host."
            yield Fault("cluster.hostfile", "not set", rule, remedy)
        elif not Path(cluster.hostfile).is_file():
            yield Fault("cluster.hostfile", cluster.hostfile, "no such file")
    if cluster.chain and cluster.kind is not ClusterKind.slurm:
        rule = "jobs that wait for each other need a scheduler"
        remedy = "Choose cluster=slurm; elsewhere one run trains all phases."
        yield Fault("cluster.chain", f"true with cluster={cluster.kind.value}", rule, remedy)


def _slurm(cluster: ClusterConfig) -> Iterator[Fault]:
    if cluster.memory is not None and not _MEMORY.fullmatch(cluster.memory):
        rule = "memory of a node as SLURM writes it: a number and K, M, G or T"
        yield Fault("cluster.memory", cluster.memory, rule, "For example cluster.memory=64G.")
    seconds = _limit(cluster)
    if cluster.time is not None and seconds is None:
        remedy = "For example cluster.time=24:00:00 or 2-00:00:00."
        yield Fault("cluster.time", cluster.time, "it is [days-]hours:minutes:seconds", remedy)
    if seconds is not None and seconds <= cluster.warning_s:
        rule = f"the job would be asked to leave as it starts: its limit is cluster.time={cluster.time}"
        yield Fault("cluster.warning_s", str(cluster.warning_s), rule, "Ask for more time.")
    if cluster.container is not None and cluster.wrap:
        rule = "one container at a time: cluster.container is pyxis, cluster.wrap any other"
        yield Fault("cluster.wrap", " ".join(cluster.wrap), rule, "Leave one of them out.")
    for option in cluster.sbatch:
        name = option.split("=", 1)[0].split(" ", 1)[0]
        name = _SHORT.get(name[:2], name)
        if not option.startswith("-"):
            rule = "it is one option of sbatch, with its dashes"
            yield Fault("cluster.sbatch", repr(option), rule, "For example --exclusive.")
        elif name in _OWN:
            yield Fault("cluster.sbatch", repr(option), _OWN[name])


def _limit(cluster: ClusterConfig) -> float | None:
    try:
        return None if cluster.time is None else wall_seconds(cluster.time)
    except ValueError:
        return None
