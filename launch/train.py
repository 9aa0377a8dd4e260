"""Train the curriculum, or the phases chosen with ``+phase=``.

deepspeed launch/train.py                         # the whole curriculum
deepspeed launch/train.py +phase=specialize       # one phase
deepspeed launch/train.py '+phase=[mix,hard]'     # several, in that order

Also starts under ``torchrun`` and plain ``python`` (one process).
"""

from __future__ import annotations

from launch.composing import start
from trainer.config.schema import Config


def command(config: Config) -> None:
    """Train."""
    from trainer.train import train

    train(config)


if __name__ == "__main__":
    start(command)
