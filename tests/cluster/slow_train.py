"""launch/train.py with steps that take a time at least, so that a test can meet a run in the middle.

As ``cluster.wrap=[PYTHON, .../slow_train.py]`` it runs the command behind it with itself in the place of
``launch/train.py``.
"""

from __future__ import annotations

import os
import runpy
import sys
import time
from pathlib import Path
from typing import Any

TRAIN = str(Path(__file__).resolve().parents[2] / "launch/train.py")
SECONDS = 0.3


def wrap(words: list[str]) -> None:
    """Become the command."""
    place = words.index(TRAIN)
    os.execv(words[0], [*words[:place], __file__, *words[place + 1 :]])


def train() -> None:
    """Train slowly."""
    from trainer.engine import ZeroEngine

    train_step = ZeroEngine.train_step

    def slow(self: Any, *args: Any, **kwargs: Any) -> Any:
        time.sleep(SECONDS)
        return train_step(self, *args, **kwargs)

    ZeroEngine.train_step = slow  # type: ignore[method-assign]
    sys.argv[0] = TRAIN
    runpy.run_path(TRAIN, run_name="__main__")


if __name__ == "__main__":
    if TRAIN in sys.argv:
        wrap(sys.argv[1:])
    else:
        train()
