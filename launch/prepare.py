"""Read, clean and tokenise the data of a run, and report on it: same overrides as ``launch/train.py``.

python launch/prepare.py data=folder data.root=DIR model.path=DIR model=hf
python launch/prepare.py preview data=...      # real samples as the model will see them
"""

from __future__ import annotations

import sys

from launch.composing import start
from trainer.config.schema import Config


def command(config: Config) -> None:
    """Prepare and report."""
    from trainer.preparing import prepare

    prepare(config)


def preview(config: Config) -> None:
    """Prepare, and print samples."""
    from trainer.preparing import preview

    preview(config)


if __name__ == "__main__":
    if "preview" in sys.argv[1:]:
        sys.argv.remove("preview")
        start(preview)
    else:
        start(command)
