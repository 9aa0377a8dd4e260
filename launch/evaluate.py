"""Evaluate a model directory on the tasks of a configuration: same overrides as ``launch/train.py``.

python launch/evaluate.py experiment=bench/demo init_from=outputs/demo/phases/hard/hf
python launch/evaluate.py data=ten_tasks data.root=DIR model=hf model.path=DIR_OR_HUB_NAME
Several ranks: deepspeed --num_gpus 2 launch/evaluate.py ...
"""

from __future__ import annotations

from launch.composing import start
from trainer.config.schema import Config


def command(config: Config) -> None:
    """Evaluate."""
    from trainer.evaluation.standalone import evaluate_directory

    evaluate_directory(config)


if __name__ == "__main__":
    start(command)
