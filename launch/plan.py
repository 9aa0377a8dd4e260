"""Print the plan of a run without training: same overrides as ``launch/train.py``.

python launch/plan.py data=ten_tasks data.root=DIR
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
    """Compose, check, plan, print."""

    def command() -> None:
        from trainer.planning import show_plan

        show_plan(checked_config(composed))

    report_faults(command)


if __name__ == "__main__":
    clean_arguments()
    main()
