"""Write a model's loss on every training row: same overrides as ``launch/train.py``.

python launch/score.py data=ten_tasks data.root=DIR model=hf model.path=DIR
Then: data.row_losses=FILE, and a phase with order: easy_to_hard and order_by: loss.
"""

from __future__ import annotations

from launch.composing import start
from trainer.config.schema import Config


def command(config: Config) -> None:
    """Score every training row."""
    from trainer.scoring import score

    score(config)


if __name__ == "__main__":
    start(command)
