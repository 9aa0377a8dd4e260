"""Write a model's loss on every training row: same overrides as ``launch/train.py``.

python launch/score.py data=ten_tasks data.root=DIR model=hf model.path=DIR
Then: data.row_losses=FILE, and a phase with order: easy_to_hard and order_by: loss.
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
    """Compose, check, score."""

    def command() -> None:
        from trainer.scoring import score

        score(checked_config(composed))

    report_faults(command)


if __name__ == "__main__":
    clean_arguments()
    try:
        main()
    finally:
        from trainer.distributed import shutdown

        shutdown()
