"""A configuration as jobs: words and variables of sbatch, a chain, the other ways to start."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from data_modules.faults import ConfigFault
from launch import submit
from launch.submission import job, local, record, sbatch, slurm, ssh
from tests.launch.test_composition import config_of
from tests.shared_folder import Folder
from trainer.config.schema import ClusterConfig, ClusterKind

SECRET = "hf_" + "a" * 30
CPU = {"kind": ClusterKind.slurm, "gpus_per_node": 0, "ranks_per_node": 2, "time": "1:00:00"}


def cluster(**fields: Any) -> ClusterConfig:
    return ClusterConfig(**(CPU | fields))


def a_job(tmp_path: Path, **fields: Any) -> job.Job:
    return job.Job("long", ("run_name=long",), tmp_path / "long", cluster(**fields))


def test_a_job_asks_for_what_the_cluster_says(tmp_path: Path) -> None:
    words = sbatch.command(
        a_job(
            tmp_path,
            **{"nodes": 3, "gpus_per_node": 8, "cpus_per_node": 96, "memory": "900G"},
            **{"partition": "big", "account": "lab", "qos": "high", "constraint": "h100"},
            **{"sbatch": ["--exclusive"], "warning_s": 600},
        )
    )
    assert words[0] == "sbatch"
    script = words.index(str(job.SCRIPT))
    assert set(words[1:script]) == {
        *("--parsable", "--job-name=long", "--nodes=3", "--signal=B:USR1@600", "--exclusive"),
        *("--gpus-per-node=8", "--cpus-per-task=96", "--mem=900G", "--time=1:00:00"),
        *("--partition=big", "--account=lab", "--qos=high", "--constraint=h100"),
        f"--output={tmp_path}/long/log/slurm-%j.out",
    }
    assert words[script + 1 :] == ["run_name=long"]


def test_a_job_without_gpus_asks_for_none_and_none_that_is_not_set(tmp_path: Path) -> None:
    words = sbatch.command(a_job(tmp_path))
    told = ("gpus", "mem=", "partition", "account", "qos", "constraint", "cpus", "dependency")
    assert not [word for word in words if word.startswith(tuple(f"--{one}" for one in told))]


def test_the_script_reads_its_variables(tmp_path: Path) -> None:
    found = sbatch.environment(
        a_job(
            tmp_path,
            **{"environment": {"NCCL_SOCKET_IFNAME": "ib0"}, "retries": 4, "master_port": 29500},
            **{"setup": ["module load cuda", "ulimit -n 4096"], "container": "image.sqsh"},
            **{"container_mounts": ["/data:/data", "/scratch:/scratch"]},
        )
    )
    assert found["POLYPHASE_RANKS"] == "2"
    assert found["POLYPHASE_RETRIES"] == "4"
    assert found["POLYPHASE_PORT"] == "29500"
    assert found["POLYPHASE_SETUP"] == "module load cuda\nulimit -n 4096"
    assert found["POLYPHASE_CONTAINER"] == "image.sqsh"
    assert found["POLYPHASE_MOUNTS"] == "/data:/data,/scratch:/scratch"
    assert found["NCCL_SOCKET_IFNAME"] == "ib0"
    text = job.SCRIPT.read_text(encoding="utf-8")
    assert all(name in text for name in found if name.startswith("POLYPHASE_"))


def test_variables_that_nobody_set_are_absent(tmp_path: Path) -> None:
    assert set(sbatch.environment(a_job(tmp_path))) == {
        *("POLYPHASE_HOME", "POLYPHASE_PYTHON", "POLYPHASE_RANKS", "POLYPHASE_RETRIES"),
    }


def test_an_array_runs_so_many_at_once_behind_whatever_came_before(tmp_path: Path) -> None:
    array = job.ArrayJob(
        *("lr", tmp_path / "jobs", 9, 2, tmp_path / "log", cluster(), (7, 8)),
        after_any=True,
        tasks=(0, 1, 2, 5, 7, 8),
    )
    words = sbatch.command(array)
    assert "--array=0-2,5,7-8%2" in words
    assert "--dependency=afterany:7:8" in words
    assert f"--output={tmp_path}/log/slurm-%A_%a.out" in words
    assert words[-1] == str(job.SCRIPT)
    assert sbatch.environment(array)["POLYPHASE_ARGUMENTS"] == str(tmp_path / "jobs")


def test_a_chain_has_a_job_per_phase_and_each_waits_for_the_one_before(tmp_path: Path) -> None:
    given = ["cluster=slurm", "+phase=[mix,hard]", "cluster.chain=true", "seed=3"]
    config = config_of(*given, f"output_dir={tmp_path}/long", "run_name=long")
    jobs = job.chain(config, given, ["mix", "hard"])
    assert [one.name for one in jobs] == ["long-mix", "long-hard"]
    assert [one.overrides for one in jobs] == [
        ("cluster=slurm", "seed=3", "+phase=mix"),
        ("cluster=slurm", "seed=3", "+phase=hard"),
    ]
    words = sbatch.command(job.behind(jobs[1], 12))
    assert "--dependency=afterok:12" in words
    assert "--kill-on-invalid-dep=yes" in words


def test_ranks_are_those_of_the_nodes() -> None:
    assert job.ranks_per_node(cluster(gpus_per_node=8, ranks_per_node=None)) == 8
    assert job.ranks_per_node(cluster(gpus_per_node=0, ranks_per_node=None)) == 1
    assert job.ranks_per_node(cluster(gpus_per_node=8, ranks_per_node=4)) == 4
    with pytest.raises(ConfigFault, match=r"cluster.gpus_per_node: not set"):
        job.ranks_per_node(cluster(gpus_per_node=None, ranks_per_node=None))


def test_here_and_over_ssh_the_command_is_the_launchers() -> None:
    here = local.command(["seed=1"], ClusterConfig(ranks_per_node=2))
    assert here[1:] == [str(job.NODE), "--ranks", "2", str(job.TRAIN), "seed=1"]
    far = ssh.command(["seed=1"], ClusterConfig(hostfile="hosts", master_port=29501))
    assert Path(far[0]).name == "deepspeed"
    assert far[1:] == ["--hostfile=hosts", "--master_port=29501", str(job.TRAIN), "seed=1"]


def test_a_hostfile_tells_ranks_by_host(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# two hosts\nh1 slots=2\n\nh2   slots=4 # the new one\n", encoding="utf-8")
    assert ssh.hosts(ClusterConfig(hostfile=str(path))) == {"h1": 2, "h2": 4}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("h1 slots=2\nh2\n", r":2: h2; a line is"),
        ("h1 slots=0\n", r":1: h1 slots=0"),
        ("h1 slots=1\nh1 slots=1\n", r":2: h1 slots=1.*every host once"),
        ("# none\n", "is empty"),
    ],
)
def test_a_hostfile_that_cannot_be_read_is_a_fault(text: str, told: str, tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigFault, match=told):
        ssh.hosts(ClusterConfig(hostfile=str(path)))


def test_a_dry_run_prints_the_command_and_the_script_and_submits_nothing(
    folder: Folder, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # no sbatch anywhere
    given = [*folder.arguments, "cluster=slurm", "cluster.gpus_per_node=4", "cluster.dry_run=true"]
    assert submit.main([*given, "global_batch_size=8", f"+cluster.environment.NOTE={SECRET}"]) == 0
    out = capsys.readouterr().out
    assert "derived: 4 rank(s)" in out  # the plan is that of the job's ranks
    line = next(one for one in out.splitlines() if one.startswith("env "))
    assert "POLYPHASE_RANKS=4" in line
    assert "--gpus-per-node=4" in line
    assert SECRET not in out
    assert "cluster.dry_run" not in line
    assert job.SCRIPT.read_text(encoding="utf-8") in out
    assert not list(folder.root.rglob("slurm"))


def test_a_dry_run_of_a_chain_says_what_waits_for_what(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [*folder.arguments, "cluster=slurm", "cluster.gpus_per_node=0", "global_batch_size=8"]
    assert submit.main([*given, "cluster.chain=true", "cluster.dry_run=true"]) == 0
    lines = [one for one in capsys.readouterr().out.splitlines() if one.startswith("env ")]
    assert ["--dependency=afterok:JOB_BEFORE" in one for one in lines] == [False, True, True]


def test_without_slurm_the_fault_says_so(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    given = [*folder.arguments, "cluster=slurm", "cluster.gpus_per_node=0", "global_batch_size=8"]
    with pytest.raises(ConfigFault, match="no sbatch here"):
        submit.main(given)
    assert not (folder.root / "run").exists(), "nothing looks like a run that waits"


def test_faults_are_told_before_anything_is_submitted(folder: Folder) -> None:
    given = [*folder.arguments, "cluster=slurm", "cluster.gpus_per_node=3", "global_batch_size=8"]
    with pytest.raises(ConfigFault, match=r"global_batch_size: 8.*3 ranks"):
        submit.main([*given, "cluster.dry_run=true"])


def test_the_jobs_of_a_run_are_listed(tmp_path: Path) -> None:
    record.note(tmp_path, [("3", "a-mix")])
    record.note(tmp_path, [("4", "a-hard")])
    assert [(one.job, one.name) for one in record.jobs_of(tmp_path)] == [
        ("3", "a-mix"),
        ("4", "a-hard"),
    ]


def test_a_run_in_the_queue_is_not_submitted_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record.note(tmp_path, [("3", "a-mix"), ("4", "a-hard")])
    monkeypatch.setattr(slurm, "states", lambda ids: {"4": "PENDING"} if "4" in set(ids) else {})
    with pytest.raises(ConfigFault, match=r"job 4 of .* is PENDING.*scancel 4"):
        record.refuse_twice(tmp_path)


def chained(tmp_path: Path, *more: str) -> list[str]:
    return [
        *("cluster=slurm", "cluster.gpus_per_node=0", "cluster.chain=true", "cluster.dry_run=true"),
        *(f"output_dir={tmp_path}/chained", *more),
    ]


def refused_chain(*given: str) -> str:
    with pytest.raises(ConfigFault) as caught:
        submit.refuse_chain(config_of(*given))
    return str(caught.value)


def test_a_chain_that_would_not_be_the_run_is_refused(tmp_path: Path) -> None:
    submit.refuse_chain(config_of(*chained(tmp_path)))
    assert "every job of a chain would begin anew" in refused_chain(
        *chained(tmp_path, "resume=never")
    )
    assert "files of conf/phase" in refused_chain(
        *chained(tmp_path, "curriculum.phases.second={steps: 3}")
    )
    assert "know all tasks that later ones train on" in refused_chain(
        *chained(tmp_path, "curriculum.phases.mix.tasks=[qa]")
    )


def test_a_percent_sign_in_a_folder_is_no_number_of_the_job(tmp_path: Path) -> None:
    one = job.Job("a", (), tmp_path / "100%j", cluster())
    assert f"--output={tmp_path}/100%%j/log/slurm-%j.out" in sbatch.command(one)


def test_a_job_takes_nothing_from_the_job_that_submits_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_RESTART_COUNT", "SLURM_CPUS_PER_TASK", "SLURM_CONF", "RANK", "SBATCH_QOS"):
        monkeypatch.setenv(name, "1")
    left = job.own_environment()
    assert {"SLURM_CONF", "SBATCH_QOS"} <= set(left)
    assert not {"SLURM_RESTART_COUNT", "SLURM_CPUS_PER_TASK", "RANK"} & set(left)


def test_states_are_those_of_the_jobs_that_were_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "squeue"
    told = "echo 100_1 RUNNING; echo 100_2 PENDING; echo 7 RUNNING"
    program.write_text(f"#!/bin/sh\n{told}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert slurm.states(["100_0", "100_2", 7]) == {"100_2": "PENDING", "7": "RUNNING"}
    assert set(slurm.states([100])) == {"100", "100_1", "100_2"}


def test_who_waits_for_a_run_here_passes_signals_on(tmp_path: Path) -> None:
    program = tmp_path / "waits.py"
    program.write_text(
        "import pathlib, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(99))\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(60)\n",
        encoding="utf-8",
    )
    waits = (
        "import subprocess, sys; from launch.submission.local import wait_for; "
        f"sys.exit(wait_for(subprocess.Popen([sys.executable, {str(program)!r}])))"
    )
    process = subprocess.Popen([sys.executable, "-c", waits])
    limit = time.monotonic() + 60
    while not (tmp_path / "ready").exists():
        assert time.monotonic() < limit
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 99
