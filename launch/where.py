"""Print the run directory that overrides lead to, and nothing else; for scripts.

python launch/where.py run_name=long
"""

from __future__ import annotations

from pathlib import Path

from launch.composing import start
from trainer.config.schema import Config


def command(config: Config) -> None:
    """Print it."""
    print(Path(config.output_dir).absolute())


if __name__ == "__main__":
    start(command)
