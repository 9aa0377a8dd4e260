"""JSON lines: what a model or a row says may hold any separator that Python knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainer.run_directory import read_json_lines, write_json_lines


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "\r", "\r\n", "\n"])
def test_texts_with_line_separators_are_read_as_written(tmp_path: Path, mark: str) -> None:
    """str.splitlines would cut a line inside a text."""
    rows = [{"answer": f"one{mark}two"}, {"answer": mark}]
    write_json_lines(tmp_path / "answers.jsonl", rows)
    assert read_json_lines(tmp_path / "answers.jsonl") == rows


def test_no_file_has_no_lines(tmp_path: Path) -> None:
    assert read_json_lines(tmp_path / "none.jsonl") == []
