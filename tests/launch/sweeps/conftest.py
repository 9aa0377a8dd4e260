"""Overrides of sweeps that are composed fast and never trained."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """A sweep in a folder of its own, over two tasks."""
    (tmp_path / "data/train").mkdir(parents=True)
    for task in ("chat", "code"):
        (tmp_path / f"data/train/{task}.jsonl").write_text("{}\n", encoding="utf-8")
    return [
        f"sweep.directory={tmp_path}/sweep",
        *("data=folder", "data.tasks.chat.general=true", f"data.root={tmp_path}/data"),
        *("curriculum.phases.hard.tasks=[code]", "curriculum.phases.hard.rest_share=0"),
        f"data.cache_dir={tmp_path}/cache",
    ]
