"""Several hosts without a scheduler: deepspeed over pdsh, torchrun by hand, and a cable that is cut."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen, TimeoutExpired

import one_phase
import pytest
import yaml

sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))  # kill_matrix

from kill_matrix import Result, result_of
from machines import wait_until
from one_phase import STEPS
from ssh_hosts import SshHosts, missing_for_ssh

from trainer.exit_codes import LOST_RANK, USER_FAULT

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1800)]

HOSTS = ("h1", "h2")
HEARTBEAT = 0.5
#: Of the run whose cable is cut: above what the first import of a library takes on a busy machine.
STALL = 25.0
#: What ranks may take to leave behind the timeout, on a busy machine.
LEAVING = 30.0
STARTING = 300.0


def overrides(root: Path, name: str) -> list[str]:
    """The run of that name in ``root``."""
    return one_phase.overrides(root, root / name)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ssh")
    (root / "hostfile").write_text("".join(f"{name} slots=1\n" for name in HOSTS), encoding="utf-8")
    return root


@pytest.fixture(scope="module")
def hosts() -> Iterator[SshHosts]:
    reason = missing_for_ssh()
    if reason is not None:
        pytest.skip(reason)
    with SshHosts(HOSTS) as hosts:
        hosts.environment["OMP_NUM_THREADS"] = "1"
        yield hosts


@pytest.fixture(scope="module")
def straight(hosts: SshHosts, root: Path) -> Result:
    """The run that all others must equal: two ranks on one host."""
    words = (sys.executable, "launch/node.py", "--ranks", "2", "launch/train.py")
    ended(hosts.start("h1", [*words, *overrides(root, "straight")], root / "straight.log"), 0, root)
    return result_of(root / "straight")


def ended(process: Popen[bytes], code: int, root: Path, timeout: float = STARTING) -> None:
    """Wait for the end of a command and compare its exit code."""
    try:
        found: int | str = process.wait(timeout)
    except TimeoutExpired:
        found = f"no end in {timeout} s"
    logs = [f"--- {one}\n{one.read_text(errors='replace')[-5000:]}" for one in root.glob("*.log")]
    assert found == code, "\n".join(logs)


def hosts_of(root: Path, name: str) -> list[str]:
    """Where a run's ranks were."""
    files = [root / name / f"alive/rank_{rank}.json" for rank in (0, 1)]
    return [json.loads(one.read_text(encoding="utf-8"))["identity"]["host"] for one in files]


def test_deepspeed_over_pdsh_trains_as_one_host_does(
    hosts: SshHosts, root: Path, straight: Result
) -> None:
    """With a variable that only ``.deepspeed_env`` hands on."""
    (hosts.home / ".deepspeed_env").write_text("HYDRA_FULL_ERROR=1\nPOLYPHASE_SEEN=of the file\n")
    words = ("deepspeed", f"--hostfile={root}/hostfile", "launch/train.py")
    log = root / "pdsh.log"
    process = hosts.start("h1", [*words, *overrides(root, "pdsh")], log)
    seen: dict[str, str] = {}

    def all_seen() -> bool:
        for name in HOSTS:
            text = hosts[name].run("sh", "-c", "cat /proc/[0-9]*/environ 2>/dev/null; true").stdout
            for found in re.findall(r"POLYPHASE_SEEN=([^\0]*)\0", text):
                seen[name] = found
        return len(seen) == len(HOSTS) or process.poll() is not None

    wait_until(all_seen, STARTING, lambda: log.read_text(errors="replace")[-3000:])
    ended(process, 0, root)
    assert seen == dict.fromkeys(HOSTS, "of the file")
    assert hosts_of(root, "pdsh") == list(HOSTS)
    assert result_of(root / "pdsh") == straight


def test_torchrun_on_each_host_trains_as_one_host_does(
    hosts: SshHosts, root: Path, straight: Result
) -> None:
    words = ("torchrun", "--nnodes=2", "--nproc-per-node=1", "--master-port=29511")
    common = (*words, f"--master-addr={hosts.address('h1')}")
    processes = [
        hosts.start(
            name,
            [*common, f"--node-rank={rank}", "launch/train.py", *overrides(root, "torchrun")],
            root / f"torchrun-{name}.log",
        )
        for rank, name in enumerate(HOSTS)
    ]
    for process in processes:
        ended(process, 0, root)
    assert hosts_of(root, "torchrun") == list(HOSTS)
    assert result_of(root / "torchrun") == straight


def test_a_run_directory_of_each_host_is_refused(hosts: SshHosts, root: Path) -> None:
    """By ``launch/node.py`` on each host, which keeps the exit code."""
    private = root / "private"
    private.mkdir()
    hosts["h2"].run("mount", "-t", "tmpfs", "none", str(private))
    master = f"--master={hosts.address('h1')}:29512"
    words = [sys.executable, "launch/node.py", "--nodes=2", "--ranks=1", master]
    logs = {name: root / f"private-{name}.log" for name in HOSTS}
    processes = [
        hosts.start(
            name,
            [*words, f"--node-rank={rank}", "launch/train.py", *overrides(private, "run")],
            logs[name],
        )
        for rank, name in enumerate(HOSTS)
    ]
    for process in processes:
        ended(process, USER_FAULT, root)
    text = " ".join("".join(one.read_text(errors="replace") for one in logs.values()).split())
    assert "host h2 sees another folder than h1 does" in text, text


def test_a_cut_cable_ends_both_sides_by_name_and_the_same_command_goes_on(
    hosts: SshHosts, root: Path, straight: Result
) -> None:
    run, metrics = root / "cut", root / "cut/metrics.jsonl"
    odd = "logging.wandb_group='$HOME \"`id`\" 100%n (a;b)'"
    command = [sys.executable, "launch/submit.py", "cluster=ssh", odd]
    command += [f"cluster.hostfile={root}/hostfile", *overrides(root, "cut")]
    command += [f"cluster.heartbeat_s={HEARTBEAT}", f"cluster.stall_timeout_s={STALL}"]
    process = hosts.start("h1", command, root / "cut.log")

    def in_the_middle() -> bool:
        assert process.poll() is None, (root / "cut.log").read_text(errors="replace")
        return metrics.is_file() and len(metrics.read_bytes().splitlines()) >= 6

    wait_until(in_the_middle, STARTING, lambda: (root / "cut.log").read_text(errors="replace"))
    hosts.cut_cable("h2")
    cut = time.monotonic()
    try:
        ended(process, LOST_RANK, root, STALL + LEAVING)
        wait_until(
            lambda: not hosts.running("h2", "launch/train.py"),
            max(1.0, cut + STALL + LEAVING - time.monotonic()),
            lambda: str(hosts.running("h2", "python")),
        )
    finally:
        hosts.mend_cable("h2")
    done = len(metrics.read_bytes().splitlines())
    assert 6 <= done < STEPS, "it was cut in the middle"

    # each side has said which host it lost: on the terminal where there is one, and in its log
    for rank, other in ((0, "h2"), (1, "h1")):
        told = (
            rf"polyphase: the network to host {other} \({re.escape(hosts.address(other))}\) is gone: "
            rf"no answer to host {HOSTS[rank]} any more"
        )
        log = (run / f"log/rank_{rank}.log").read_text(encoding="utf-8")
        assert re.search(told, log), log[-3000:]
        assert (run / f"log/rank_{rank}.stacks.txt").stat().st_size
    text = (root / "cut.log").read_text(errors="replace")
    assert "polyphase: the network to host h2" in text, text[-3000:]

    shutil.copy(root / "cut.log", root / "cut-first.log")
    ended(hosts.start("h1", command, root / "cut.log"), 0, root)
    assert "Resumes behind step" in (root / "cut.log").read_text(errors="replace")
    assert hosts_of(root, "cut") == list(HOSTS)
    assert result_of(run) == straight
    settings = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert settings["logging"]["wandb_group"] == '$HOME "`id`" 100%n (a;b)'
