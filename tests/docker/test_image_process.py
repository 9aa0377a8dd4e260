"""The first process of the image, outside of one: signals, exit codes, and who is waited for."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.shared_data import REPOSITORY

INIT = [sys.executable, str(REPOSITORY / "docker/init.py")]
#: Like deepspeed: it ends at a SIGTERM, and the process that it started saves, and leaves with 99.
LAUNCHER = """
trap 'exit 143' TERM
sh -c 'trap "sleep 1; echo saved >>$1; exit 99" TERM; echo up >>$1; while :; do sleep 0.1; done' rank "$1" &
while :; do sleep 0.1; done
"""


def shell(script: str, *words: str) -> list[str]:
    return [*INIT, "sh", "-c", script, "sh", *words]


def wait_for(path: Path, text: str) -> None:
    deadline = time.monotonic() + 60
    while not path.exists() or text not in path.read_text(encoding="utf-8"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("exit 99", 99), ("exec nothing", 127)],
)
def test_it_ends_with_the_code_of_its_command(script: str, code: int) -> None:
    assert subprocess.run(shell(script), timeout=60, check=False).returncode == code


def test_a_command_that_cannot_be_started() -> None:
    done = subprocess.run([*INIT, "no-such-command"], capture_output=True, text=True, check=False)
    assert done.returncode == 127
    assert done.stderr == "polyphase: no-such-command: No such file or directory\n"
    assert (
        subprocess.run([*INIT, "/etc/passwd"], capture_output=True, check=False).returncode == 126
    )


def test_it_stays_until_the_ranks_have_saved_and_keeps_their_code(tmp_path: Path) -> None:
    told = tmp_path / "told"
    process = subprocess.Popen(shell(LAUNCHER, str(told)))
    wait_for(told, "up")
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 99
    assert told.read_text(encoding="utf-8") == "up\nsaved\n"


def test_without_a_signal_it_waits_for_nobody_else(tmp_path: Path) -> None:
    told = tmp_path / "told"
    started = time.monotonic()
    assert subprocess.run(shell('sleep 60 & echo $! >"$1"', str(told)), check=False).returncode == 0
    assert time.monotonic() - started < 30
    os.kill(int(told.read_text(encoding="utf-8")), signal.SIGKILL)
