"""Print the plan of a run without training: same overrides as ``launch/train.py``.

python launch/plan.py data=ten_tasks data.root=DIR
"""

from __future__ import annotations

from launch.composing import start
from trainer.config.schema import Config


def command(config: Config) -> None:
    """Plan and print."""
    from trainer.planning import show_plan

    show_plan(config)


if __name__ == "__main__":
    start(command)
