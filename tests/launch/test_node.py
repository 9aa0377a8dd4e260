"""launch/node.py: the ranks of one host, their exit code, and who gets signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from launch.node import arguments
from launch.submission.job import own_environment
from tests.shared_data import REPOSITORY
from tests.shared_port import free_port

#: Ends with the code that its rank finds in the arguments; negative ones are signals.
ENDS = """
import os, sys, time
code = int(sys.argv[1:][int(os.environ["RANK"])])
time.sleep(0 if code else 1.5)
if code < 0:
    os.kill(os.getpid(), -code)
sys.exit(code)
"""
#: Leaves with 99 at SIGUSR1, with 7 at SIGTERM, after a while of saving.
HEARS = """
import os, pathlib, signal, sys, time
def hear(number, _):
    time.sleep(0.5)
    os._exit(99 if number == signal.SIGUSR1 else 7)
for number in (signal.SIGUSR1, signal.SIGTERM):
    signal.signal(number, hear)
here = pathlib.Path(sys.argv[1])
(here / os.environ["RANK"]).write_text(repr({n: os.environ.get(n) for n in sys.argv[2:]}))
time.sleep(60)
"""


def start(program: str, folder: Path, *words: str, node: tuple[str, ...] = ()) -> subprocess.Popen:
    path = folder / "program.py"
    path.write_text(program, encoding="utf-8")
    command = [sys.executable, str(REPOSITORY / "launch/node.py"), *node, str(path), *words]
    return subprocess.Popen(command, env=own_environment())


@pytest.mark.parametrize(
    ("codes", "expected"),
    [(("0", "0"), {0}), (("0", "4"), {4}), (("99", "99"), {99}), (("0", "-9"), {137})],
)
def test_the_exit_code_is_that_of_the_first_rank_that_failed(
    codes: tuple[str, ...], expected: set[int], tmp_path: Path
) -> None:
    process = start(ENDS, tmp_path, *codes, node=("--ranks", "2"))
    assert process.wait(60) in expected


def test_hosts_meet_and_each_ends_with_its_own_code(tmp_path: Path) -> None:
    port = free_port()
    nodes = [
        start(
            *(ENDS, tmp_path, "2", "99"),
            node=(
                *("--nodes", "2", "--node-rank", str(rank)),
                *("--ranks", "1", "--master", f"localhost:{port}"),
            ),
        )
        for rank in range(2)
    ]
    assert [node.wait(60) for node in nodes] == [2, 99]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGUSR1, 99), (signal.SIGTERM, 7)])
def test_signals_are_the_ranks_and_they_have_their_time(
    number: signal.Signals, code: int, tmp_path: Path
) -> None:
    process = start(
        *(HEARS, tmp_path, str(tmp_path), "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS"),
        node=("--ranks", "2"),
    )
    notes = [tmp_path / "0", tmp_path / "1"]
    limit = time.monotonic() + 60
    while not all(note.is_file() and note.read_text() for note in notes):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.05)
    seen = {
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
    }
    assert [note.read_text() for note in notes] == [repr(seen)] * 2
    ranks = psutil.Process(process.pid).children()
    assert len(ranks) >= 2
    process.send_signal(number)
    assert process.wait(30) == code
    assert not [one for one in ranks if one.is_running()]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--master", "somewhere", "x.py"], "it is HOST:PORT"),
        (["--nodes", "2", "x.py"], "several hosts must agree on a port"),
        (["--nodes", "2", "--node-rank", "2", "--master", "a:1", "x.py"], "count from 0"),
    ],
)
def test_what_cannot_be_started_is_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        arguments(words)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_overrides_that_look_like_options_are_the_programs() -> None:
    found = arguments(["--ranks", "2", "launch/train.py", "--nodes", "+phase=mix"])
    assert (found.ranks, found.nodes, found.overrides) == (2, 1, ["--nodes", "+phase=mix"])
