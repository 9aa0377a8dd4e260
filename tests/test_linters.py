"""Shell scripts and the Dockerfile pass their linters, which come with the extra ``dev``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared_data import REPOSITORY


def linter(name: str) -> str:
    """Where a linter is; the test is skipped if there is none."""
    beside_python = Path(sys.executable).with_name(name)
    found = str(beside_python) if beside_python.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed: make setup brings it to Linux on x86_64")
    return found


def complaints(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def shell_scripts() -> list[str]:
    """Tracked or new files that say they are for a shell."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, check=True)
    found = []
    for name in names.stdout.splitlines():
        path = REPOSITORY / name
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                first = file.readline(80)
            if first.startswith(b"#!") and first.rstrip().endswith((b"bash", b"/sh", b" sh")):
                found.append(name)
    return found


def test_the_dockerfile_has_no_complaints() -> None:
    assert complaints(linter("hadolint"), "--no-color", "docker/Dockerfile") == ""


def test_hadolint_would_complain(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python\nRUN cd /tmp && apt-get install curl\n", encoding="utf-8")
    assert "DL3006" in complaints(linter("hadolint"), "--no-color", str(bad))


def test_shell_scripts_have_no_complaints() -> None:
    scripts = shell_scripts()
    assert {".ci/run", "slurm/train.sbatch"} <= set(scripts)
    assert complaints(linter("shellcheck"), *scripts) == ""


def test_shellcheck_would_complain(tmp_path: Path) -> None:
    bad = tmp_path / "bad.sh"
    bad.write_text("#!/bin/sh\nrm -r $1/*\n", encoding="utf-8")
    assert "SC2086" in complaints(linter("shellcheck"), str(bad))
