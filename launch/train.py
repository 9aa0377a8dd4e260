"""Train the curriculum, or the phases chosen with ``+phase=``.

deepspeed launch/train.py                         # the whole curriculum
deepspeed launch/train.py +phase=specialize       # one phase
deepspeed launch/train.py '+phase=[mix,hard]'     # several, in that order

Also starts under ``torchrun`` and plain ``python`` (one process).
"""

from __future__ import annotations

import hydra
from omegaconf import DictConfig

from launch.composing import (
    CONFIG_NAME,
    CONFIG_PATH,
    checked_config,
    clean_arguments,
    report_faults,
)


@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name=CONFIG_NAME)
def main(composed: DictConfig) -> None:
    """Compose, check, train."""

    def command() -> None:
        from trainer.train import train

        train(checked_config(composed))

    report_faults(command)


if __name__ == "__main__":
    clean_arguments()
    try:
        main()
    finally:
        from trainer.distributed import shutdown

        shutdown()
