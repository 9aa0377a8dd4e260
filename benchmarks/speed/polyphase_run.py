"""polyphase itself: ``launch/train.py`` with a clock behind every optimizer step."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from launch.composing import start
from trainer.config.schema import Config


def command(config: Config) -> None:
    """Train, as ``launch/train.py`` does."""
    from contender import Clock, work_of_environment

    from trainer.engine import ZeroEngine
    from trainer.train import train

    clock = Clock(work_of_environment())
    train_step = ZeroEngine.train_step

    def clocked(self, batches, *args, **settings):
        result = train_step(self, batches, *args, **settings)
        clock.step_done(sum(batch.tokens for batch in batches), self.causal_model)
        return result

    ZeroEngine.train_step = clocked
    train(config)
    clock.save()


if __name__ == "__main__":
    start(command)
