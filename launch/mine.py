"""Write leaks on training requests as rows of the next phase: same overrides as ``launch/train.py``.

python launch/mine.py experiment=bench/demo init_from=outputs/demo/phases/mix/hf
Several ranks: deepspeed --num_gpus 2 launch/mine.py ...
"""

from __future__ import annotations

from launch.composing import start
from trainer.config.schema import Config


def command(config: Config) -> None:
    """Mine."""
    from trainer.mining import mine

    mine(config)


if __name__ == "__main__":
    start(command)
