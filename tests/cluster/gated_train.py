"""launch/train.py that stands still in front of a step until a test lets it go on.

As ``cluster.wrap=[PYTHON, .../gated_train.py]`` it runs the command behind it, with itself in the place of
``launch/train.py`` if that is part of it. Ranks wait in front of step N while there is a file
``$POLYPHASE_TEST_GATES/closed_N``; ``reached_N`` tells that the main rank has come there. Steps take a
time at least, so that a run does not come to its end before a signal does.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from launch.composing import start
from launch.train import command
from trainer.config.schema import Config

TRAIN = str(Path(__file__).resolve().parents[2] / "launch/train.py")
VARIABLE = "POLYPHASE_TEST_GATES"
SECONDS = 0.2


class Gates:
    """The gates of a run, as a test sees them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder

    def closed(self, step: int) -> Path:
        """There while the gate is closed."""
        return self.folder / f"closed_{step}"

    def reached(self, step: int) -> Path:
        """There once the main rank came to it."""
        return self.folder / f"reached_{step}"

    def close(self, step: int) -> None:
        """Nobody trains this step for now."""
        self.reached(step).unlink(missing_ok=True)
        self.closed(step).touch()

    def open(self, step: int) -> None:
        """Go on."""
        self.closed(step).unlink()


def train(config: Config) -> None:
    """Train, heeding gates."""
    from trainer import phase_steps

    gates, seed_generators = Gates(Path(os.environ[VARIABLE])), phase_steps.seed_generators

    def gated(seed: int, step: int, rank: int) -> None:
        time.sleep(SECONDS)
        while gates.closed(step).exists():
            if rank == 0:
                gates.reached(step).touch()
            time.sleep(0.05)
        seed_generators(seed, step, rank)

    phase_steps.seed_generators = gated
    command(config)


if __name__ == "__main__":
    given = sys.argv[1:]
    if given[0] == sys.executable:  # in front of a command
        os.execv(given[0], [__file__ if one == TRAIN else one for one in given])
    start(train)
