"""``launch/versions.py`` for real, with hardly any steps."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from launching import REPOSITORY

TINY = (
    "curriculum.phases.mix.steps=2",
    "evaluation.rows_per_task=2",
    "evaluation.before_training=false",
    "evaluation.bootstrap_samples=10",
    "checkpoint=none",
)


def versions(root: Path, *given: str) -> subprocess.CompletedProcess[str]:
    places = [f"data.root={root}/data", f"data.cache_dir={root}/cache"]
    command = [
        sys.executable,
        str(REPOSITORY / "launch/versions.py"),
        "--output",
        str(root / "out"),
    ]
    return subprocess.run(
        [*command, *given, *places, *TINY],
        capture_output=True,
        text=True,
        timeout=600,  # a busy machine is no failure
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "400"},
        check=False,
    )


def test_a_version_is_run_and_set_beside_the_log(tmp_path: Path) -> None:
    done = versions(tmp_path, "--only", "v0_1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "v0_1-seed0: done" in done.stdout
    lines = [line.strip() for line in done.stdout.split("the five versions, %")[1].splitlines()]

    def below(title: str) -> list[str]:
        """The last word of the line with that title, and the line below it."""
        (place,) = (n for n, line in enumerate(lines) if line.startswith(title))
        return [lines[place].split()[-1], lines[place + 1]]

    ours, logged = below("rows of an epoch")
    assert (ours, logged.split()) == ("1,200", ["the", "log's", "1,200"])
    for title, figure in (("crosstalk, ordinary", "10"), ("qa", "85"), ("translation", "38")):
        assert below(title)[1].split() == ["the", "log's", figure]
    for title in ("crosstalk, no_tag", "general after", "mean, all prompt sets"):
        assert below(title)[0].endswith(")"), "an interval"
    assert (tmp_path / "out/comparison.html").is_file()
    failed = versions(tmp_path, "--only", "v0_2", "zero.stage=7")
    assert failed.returncode == 1
    assert "v0_2-seed0: FAILED with exit code 2" in failed.stdout
    log = (tmp_path / "out/v0_2-seed0.log").read_text(encoding="utf-8")
    assert "ZeRO has the stages 0, 1, 2 and 3" in log
