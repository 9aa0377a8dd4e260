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


def test_a_line_that_was_cut_off_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"ste', encoding="utf-8")
    assert read_json_lines(path) == [{"step": 1}, {"step": 2}]


def test_a_damaged_line_between_others_is_no_line_less(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"ste\n{"step": 3}\n', encoding="utf-8")
    with pytest.raises(ValueError, match="line 2: "):
        read_json_lines(path)
