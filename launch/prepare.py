"""Read, clean and tokenise the data of a run, and report on it: same overrides as ``launch/train.py``.

python launch/prepare.py data=folder data.root=DIR model.path=DIR model=hf
python launch/prepare.py preview data=...      # real samples as the model will see them
"""

from __future__ import annotations

import sys

import hydra
from omegaconf import DictConfig

from launch.composing import (
    CONFIG_NAME,
    CONFIG_PATH,
    checked_config,
    clean_arguments,
    report_faults,
)

_PREVIEW = "preview"
_preview = False


@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name=CONFIG_NAME)
def main(composed: DictConfig) -> None:
    """Compose, check, prepare, report."""

    def command() -> None:
        from trainer.preparing import prepare, preview

        (preview if _preview else prepare)(checked_config(composed))

    report_faults(command)


if __name__ == "__main__":
    if _PREVIEW in sys.argv[1:]:
        sys.argv.remove(_PREVIEW)
        _preview = True
    clean_arguments()
    main()
