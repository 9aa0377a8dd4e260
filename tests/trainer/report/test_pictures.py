"""PNG files of a run's main charts."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.trainer.report.made_run import made_run, task_names
from trainer.report import chart_files, draw_charts
from trainer.run_facts import read_run


def size(path: Path) -> tuple[int, int]:
    """Width and height of a PNG file."""
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", head[16:24])
    return width, height


@pytest.mark.parametrize("tasks", [10, 50])
def test_the_charts_are_images_that_grow_with_the_tasks(tmp_path: Path, tasks: int) -> None:
    facts = read_run(made_run(tmp_path, tasks))
    assert chart_files(facts.directory) == {}
    files = draw_charts(facts)
    assert list(files) == ["scores", "crosstalk", "losses", "mixture"]
    assert files == chart_files(facts.directory)
    for name, path in files.items():
        width, height = size(path)
        assert width >= 700, name
        if name != "losses":
            assert height >= 30 * tasks, name


def test_names_that_look_like_markup_are_drawn(tmp_path: Path) -> None:
    names = [*task_names(2), "$\\frac{1$", "_hidden", "a\u202eb", "名" * 60]
    assert len(draw_charts(read_run(made_run(tmp_path, names)))) == 4


def test_charts_of_an_earlier_report_do_not_stay(tmp_path: Path) -> None:
    root = made_run(tmp_path)
    draw_charts(read_run(root))
    for path in root.rglob("evaluation.json"):
        path.unlink()
    assert list(draw_charts(read_run(root))) == ["losses", "mixture"]
    assert list(chart_files(read_run(root).directory)) == ["losses", "mixture"]
