"""Programs that misbehave are contained, count as failures and leave the harness going.

The same programs run three times: with the rights of the tests, as a user without any, and on a kernel
that seems to have no Landlock.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.trainer.evaluation.sandbox import hostile
from tests.trainer.evaluation.sandbox.hostile_worker import LIMITS, run_all
from trainer.evaluation.sandbox import Outcome, check_limits

REPOSITORY = Path(__file__).resolve().parents[4]
CONTENT, SECRET = "these words stay", "swordfish"
#: Without Landlock nothing is opened for writing and files can be read: other ends, none a success
#: but reading what this user can read.
READERS = {"secret file", "passwords", "listing", "environment of the parent"}


@dataclass
class World:
    """What the programs are aimed at, and what reached it."""

    folder: Path
    arrivals: list[str] = field(default_factory=list)
    port: int = 0

    @property
    def canary(self) -> Path:
        return self.folder / "precious" / "canary"

    def cases(self) -> list[tuple[str, str, bool]]:
        """Every hostile program, and a harmless one at the end: program, tests, whether it waits."""
        names = (
            f"CANARY, SECRET = {str(self.canary)!r}, {str(self.folder / 'secret')!r}\n"
            f"PORT, SOCKET = {self.port}, {str(self.folder / 'socket')!r}\n"
        )
        found = [(names + case.program, case.tests, case.waits) for case in hostile.ALL]
        return [*found, ("answer = 1", hostile.TESTS, False)]

    def assert_unharmed(self) -> None:
        assert self.canary.read_text() == CONTENT
        assert self.canary.stat().st_mode & 0o777 == 0o666
        assert self.canary.stat().st_mtime > 1e9
        assert [path.name for path in self.canary.parent.iterdir()] == ["canary"]
        names = sorted(path.name for path in self.folder.iterdir())
        assert names == ["precious", "secret", "socket"]
        assert self.arrivals == []


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    folder = Path(tempfile.mkdtemp(prefix="sandbox-world-"))
    world = World(folder)
    world.canary.parent.mkdir()
    world.canary.write_text(CONTENT)
    (folder / "secret").write_text(SECRET)
    # only the confinement protects these: any user may write them
    for path in (folder, world.canary.parent):
        path.chmod(0o777)
    for path in (world.canary, folder / "secret"):
        path.chmod(0o666)
    tcp, unix = socket.create_server(("127.0.0.1", 0)), socket.socket(socket.AF_UNIX)
    world.port = tcp.getsockname()[1]
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", world.port))
    unix.bind(str(folder / "socket"))
    (folder / "socket").chmod(0o777)
    unix.listen()

    def accept(name: str, listener: socket.socket) -> None:
        try:
            listener.recv(1) if name == "udp" else listener.accept()
        except OSError:
            return
        world.arrivals.append(name)

    listeners = {"tcp": tcp, "udp": udp, "unix": unix}
    for name, listener in listeners.items():
        threading.Thread(target=accept, args=(name, listener), daemon=True).start()
    yield world
    for listener in listeners.values():
        listener.close()
    shutil.rmtree(folder)


def left_folders() -> set[str]:
    return {path.name for path in Path(tempfile.gettempdir()).glob("polyphase-program-*")}


@pytest.fixture(scope="module")
def outcomes(world: World) -> list[Outcome]:
    check_limits()
    before, start = left_folders(), time.monotonic()
    os.environ["POLYPHASE_TEST_SECRET"] = SECRET
    found = run_all(world.cases())
    del os.environ["POLYPHASE_TEST_SECRET"]
    # a second of CPU time or of waiting ends each; cores may be shared
    assert time.monotonic() - start < 3 * len(found)
    assert left_folders() <= before
    return found


@pytest.mark.parametrize(
    ("number", "case"), enumerate(hostile.ALL), ids=lambda value: getattr(value, "name", "")
)
def test_contained(number: int, case: hostile.Hostile, outcomes: list[Outcome]) -> None:
    if case.name in READERS | {"linked secret"} and not check_limits().landlock:
        pytest.skip("this kernel has no Landlock: files of this user can be read")
    outcome = outcomes[number]
    assert not outcome.ok
    assert outcome.reason in case.reasons, outcome.stderr
    assert SECRET not in outcome.stdout + outcome.stderr
    assert len(outcome.stdout) <= LIMITS.output_bytes
    assert len(outcome.stderr) <= LIMITS.output_bytes


def test_nothing_outside_was_touched(world: World, outcomes: list[Outcome]) -> None:
    world.assert_unharmed()
    assert outcomes[-1] == Outcome(ok=True, stdout="", stderr="", reason="")


def interpreter_of_everyone() -> str:
    """A Python that a user without rights can start."""
    for name in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        test = "import sys; sys.exit(sys.version_info < (3, 11))"
        try:
            ended = subprocess.run(
                [name, "-c", test], user=65534, group=65534, cwd="/", check=False
            )
        except OSError:
            continue
        if ended.returncode == 0:
            return name
    pytest.skip("no Python 3.11 or later here that the user nobody can start")


def elsewhere(world: World, python: str, *rights: str) -> tuple[dict, list[Outcome]]:
    """Outcomes of the same programs in a process with other rights."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        names = ("__init__", "faults", "masking")
        parts = (*(f"data_modules/{name}.py" for name in names), "trainer/__init__.py")
        for part in (*parts, "trainer/evaluation/__init__.py"):
            (folder / part).parent.mkdir(exist_ok=True)
            shutil.copy(REPOSITORY / part, folder / part)
        room = "trainer/evaluation/sandbox"
        shutil.copytree(REPOSITORY / room, folder / room)
        shutil.copy(Path(__file__).with_name("hostile_worker.py"), folder)
        (folder / "cases.json").write_text(json.dumps(world.cases()))
        run = subprocess.run(
            [python, str(folder / "hostile_worker.py"), str(folder / "cases.json"), *rights],
            env={"PYTHONPATH": name, "POLYPHASE_TEST_SECRET": SECRET},
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    return found, [Outcome(**outcome) for outcome in found["outcomes"]]


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_contained_without_rights(world: World) -> None:
    found, outcomes = elsewhere(world, interpreter_of_everyone(), "nobody")
    assert found["user"] == 65534
    wrong = {
        case.name: outcome
        for case, outcome in zip(hostile.ALL, outcomes, strict=False)
        if outcome.ok or outcome.reason not in case.reasons
    }
    assert wrong == {}
    assert outcomes[-1].ok
    assert SECRET not in json.dumps(found)
    world.assert_unharmed()


def test_contained_without_landlock(world: World) -> None:
    found, outcomes = elsewhere(world, sys.executable, "without-landlock")
    assert found["landlock"] == 0
    ends = {case.name: outcome for case, outcome in zip(hostile.ALL, outcomes, strict=False)}
    assert outcomes[-1].ok
    assert {name for name, outcome in ends.items() if outcome.ok} <= READERS
    # said in the docstring: without Landlock a program reads what this user can
    assert ends["secret file"].stdout.strip() == SECRET
    expected = {case.name: case.reasons for case in hostile.ALL}
    writers = {case.name for case in hostile.DISK} | {"linked secret", "open files"}
    for name, outcome in ends.items():
        if name not in READERS:
            allowed = (*expected[name], "forbidden") if name in writers else expected[name]
            assert outcome.reason in allowed, (name, outcome)
    world.assert_unharmed()
