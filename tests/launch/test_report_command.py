"""launch/report.py: where a comparison goes, and what is no comparison."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from data_modules.faults import DataFault
from launch import report
from tests.trainer.report.made_run import made_run


def made_runs(folder: Path) -> list[Path]:
    return [made_run(folder, 6, seed, f"run-{seed}", 0.0, interference=False) for seed in (0, 1)]


def test_a_comparison_goes_where_it_is_asked_to(tmp_path: Path) -> None:
    runs = made_runs(tmp_path / "runs")
    report.command(runs, None, tmp_path / "new/folder")
    assert (tmp_path / "new/folder/comparison.html").stat().st_size > 10_000
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", Path("/proc/nowhere")):
        with pytest.raises(DataFault, match="are written there"):
            report.command(runs, None, place)


@pytest.mark.parametrize("words", [["run"], ["--sweep", "folder"]])
@pytest.mark.parametrize("more", [["--output", "there"], ["--names", "a"]])
def test_what_would_be_ignored_is_refused(
    words: list[str],
    more: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["report.py", *words, *more])
    with pytest.raises(SystemExit):
        report.arguments()
    assert "are for several runs" in capsys.readouterr().err
