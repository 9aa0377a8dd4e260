"""A real SLURM for tests: munged, slurmctld and three nodes, each a machine of its own.

Two nodes train; the third is a spare, so that a job comes back while one is down. ``main`` has priority
over ``low``, whose jobs are preempted: requeued after a time to leave. Nothing else is set that would
bring a job back, as many sites have nothing: no ``RequeueExit``, and ``JobRequeue=0``, which jobs overrule.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Collection
from pathlib import Path

import psutil
from machines import Machine, Network, missing, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]
CONTROL = "control"
NODES = ("n1", "n2", "n3")
#: Seconds that a preempted job of ``low`` has to leave, and after which a silent node is down.
GRACE_S = 20
NODE_TIMEOUT_S = 10
ENDED = frozenset(
    {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL", "OUT_OF_MEMORY"}
)

# cred_expire: a requeued job waits one second longer than it, by default two minutes.
# MinJobAge: jobs that ended are shown for an hour.
_CONF = """\
ClusterName=polyphase
SlurmctldHost={control}({control_address})
SlurmctldPort=6817
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd.%n.log
SlurmctldDebug=verbose
SlurmdDebug=verbose
MailProg=/bin/true
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
GresTypes=gpu
MpiDefault=none
ReturnToService=2
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=0
MinJobAge=3600
SlurmdTimeout={node_timeout}
KillWait=5
MessageTimeout=5
UnkillableStepTimeout=30
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0,sched_min_interval=0
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/ended.txt
AccountingStorageType=accounting_storage/none
{nodes}
PartitionName=main Nodes=ALL Default=YES DefaultTime=10 PriorityTier=10 PreemptMode=OFF
PartitionName=low Nodes=ALL DefaultTime=10 PriorityTier=1 PreemptMode=REQUEUE GraceTime={grace}
"""


def missing_for_slurm() -> str | None:
    """Why there can be no SLURM here, or None."""
    return missing("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")


class SlurmCluster:
    """A running SLURM; :meth:`close` takes all of it down.

    Attributes:
        folder: everything that it writes, logs among it.
        environment: of commands that talk to it, and so of jobs.
    """

    def __init__(self) -> None:
        # not below pytest's own folder: munged wants one that everybody may enter
        self.folder = Path(tempfile.mkdtemp(prefix="polyphase-slurm-"))
        self.folder.chmod(0o755)
        for name in ("log", "state", "munge", "gpus"):
            (self.folder / name).mkdir()
        self._network = Network(self.folder / "hosts", (CONTROL, *NODES))
        self.environment = {
            "PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin",
            "HOME": os.environ.get("HOME", "/root"),
            "LANG": "C.UTF-8",
            "SLURM_CONF": str(self.folder / "slurm.conf"),
            "POLYPHASE_HOME": str(REPOSITORY),
            "POLYPHASE_PYTHON": sys.executable,
            "PYTHONPATH": str(REPOSITORY),
            "OMP_NUM_THREADS": "1",
        }
        try:
            self._start()
        except BaseException:
            self.close(keep=True)
            raise

    @property
    def control(self) -> Machine:
        """Where commands run that talk to SLURM."""
        return self._network.machines[CONTROL]

    def run(self, *words: str, folder: Path = REPOSITORY, timeout: float = 120) -> str:
        """Run a command that talks to SLURM, and give back what it printed."""
        return self.attempt(*words, folder=folder, timeout=timeout, check=True).stdout

    def attempt(
        self, *words: str, folder: Path = REPOSITORY, timeout: float = 120, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """The same for one that may fail."""
        return self.control.run(
            *words, environment=self.environment, folder=folder, timeout=timeout, check=check
        )

    def sbatch(self, *words: str, folder: Path = REPOSITORY) -> int:
        """Submit a job and give back its number."""
        return int(self.run("sbatch", "--parsable", *words, folder=folder).split(";")[0])

    def job(self, number: int | str) -> dict[str, str]:
        """What ``scontrol show job`` tells: JobState, ExitCode, Restarts, BatchHost, NodeList ..."""
        line = self.run("scontrol", "show", "job", "--oneliner", str(number))
        return dict(part.split("=", 1) for part in line.split() if "=" in part)

    def state(self, number: int | str) -> str:
        """State of a job."""
        return self.job(number)["JobState"]

    def wait_for(self, number: int | str, *states: str, timeout: float = 120) -> dict[str, str]:
        """Wait until a job has one of these states; any end is one if none is named."""
        wanted: Collection[str] = states or ENDED

        def reached() -> bool:
            state = self.state(number)
            assert state in wanted or state not in ENDED, f"{state}\n{self.story(number)}"
            return state in wanted

        wait_until(reached, timeout, lambda: self.story(number))
        return self.job(number)

    def wait_until_there(self, path: Path, number: int | str, timeout: float = 120) -> None:
        """Wait until a job that has not ended made a file."""

        def there() -> bool:
            assert self.state(number) not in ENDED, self.story(number)
            return path.exists()

        wait_until(there, timeout, lambda: self.story(number))

    def wait_for_start(
        self, number: int | str, restarts: int, timeout: float = 120
    ) -> dict[str, str]:
        """Wait until a job runs that came back so many times."""

        def runs() -> bool:
            job = self.job(number)
            assert job["JobState"] not in ENDED, self.story(number)
            return job["JobState"] == "RUNNING" and int(job["Restarts"]) == restarts

        wait_until(runs, timeout, lambda: self.story(number))
        return self.job(number)

    def ended(self, number: int | str) -> list[dict[str, str]]:
        """What the log of jobs tells of each end of a job: JobState, ExitCode, NodeList ..."""
        path = self.folder / "log/ended.txt"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        entries = [
            dict(part.split("=", 1) for part in line.split() if "=" in part) for line in lines
        ]
        return [entry for entry in entries if entry["JobId"] == str(number)]

    def story(self, number: int | str) -> str:
        """All there is to know about a job, for the message of a failed test."""
        job = self.run("scontrol", "show", "job", str(number))
        nodes = self.run("sinfo", "--Node", "--long")
        output = dict(part.split("=", 1) for part in job.split() if "=" in part).get("StdOut", "")
        log = Path(output)
        text = log.read_text(errors="replace")[-6000:] if log.is_file() else "no log"
        return "\n".join([job, nodes, f"--- {output}", text])

    def node_state(self, name: str) -> str:
        """State of a node, such as ``idle``, ``mixed`` or ``down``; with ``*`` it does not answer."""
        return self.run(
            "sinfo", "--noheader", f"--nodes={name}", "--partition=main", "-o%T"
        ).strip()

    def kill_node(self, name: str) -> None:
        """Its power fails."""
        self._network.machines[name].kill()

    def start_node(self, name: str) -> None:
        """Start a node, for the first time or after it was killed."""
        machine = self._network.start(name)
        machine.run("slurmd", "-N", name, environment=self.environment)

    def cut_cable(self, name: str) -> None:
        """From now on a node and the rest of the cluster do not hear each other."""
        self._network.cut_cable(name)

    def mend_cable(self, name: str) -> None:
        """Join it again; without being asked the controller takes a minute to look for it."""
        self._network.mend_cable(name)
        self.run("scontrol", "reconfigure")

    def ranks_on(self, name: str) -> list[psutil.Process]:
        """Processes of a node that train."""
        found = self._network.machines[name].processes()
        # the elastic agent starts them as PYTHON -u PROGRAM
        return [one for one in found if (one.info["cmdline"] or [])[1:2] == ["-u"]]

    def settle(self, timeout: float = 60) -> None:
        """Wait until no job is left and every node is idle."""
        for number in self.run("squeue", "--noheader", "-o%A").split():
            self.run("scancel", number)
        for name in NODES:
            if "down" in self.node_state(name):  # started anew it is taken back at once
                self.mend_cable(name)
                self.kill_node(name)
                self.start_node(name)

        def settled() -> bool:
            return {self.node_state(name) for name in NODES} == {"idle"}

        wait_until(settled, timeout, lambda: self.run("sinfo", "--Node", "--long"))

    def close(self, keep: bool = False) -> None:
        """Take everything down; ``keep`` leaves the logs."""
        self._network.close()
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self) -> None:
        control, folder = self._network.start(CONTROL), self.folder
        key = folder / "munge/key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o400)
        gpus = [folder / f"gpus/{number}" for number in range(2)]
        for gpu in gpus:
            os.mknod(
                gpu, 0o666 | 0o020000, os.makedev(1, 3)
            )  # what /dev/null is: a device to hand out
        addresses = self._network.addresses
        nodes = "\n".join(
            f"NodeName={name} NodeAddr={addresses[name]} Port=6818 CPUs=4 RealMemory=4000 "
            "Gres=gpu:2 State=UNKNOWN"
            for name in NODES
        )
        (folder / "gres.conf").write_text(
            f"NodeName={','.join(NODES)} Name=gpu File={folder}/gpus/[0-1]\n", encoding="utf-8"
        )
        (folder / "cgroup.conf").write_text("CgroupAutomount=no\n", encoding="utf-8")
        text = _CONF.format(
            control=CONTROL,
            control_address=addresses[CONTROL],
            folder=folder,
            nodes=nodes,
            node_timeout=NODE_TIMEOUT_S,
            grace=GRACE_S,
        )
        (folder / "slurm.conf").write_text(text, encoding="utf-8")
        control.run(
            "munged",
            f"--key-file={key}",
            f"--socket={folder}/munge/socket",
            f"--pid-file={folder}/munge/pid",
            f"--log-file={folder}/log/munged.log",
            f"--seed-file={folder}/munge/seed",
            environment=self.environment,
        )
        control.run("slurmctld", "-c", environment=self.environment)
        for name in NODES:
            self.start_node(name)
        self.settle()
