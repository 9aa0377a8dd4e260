"""Started under torchrun by the integration tests: trains every case of a JSON file.

Each case is a list of Hydra overrides. One process group serves all of them, as importing PyTorch and
DeepSpeed takes longer than the few steps of a case. Ranks of :mod:`rank_processes` come by
:func:`command`, for the file that ``TRAIN_CASES`` names.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from launching import composed

from trainer.config.schema import Config
from trainer.distributed import shutdown
from trainer.train import train


def command(_: Config) -> None:
    """Train each case in turn."""
    for overrides in json.loads(Path(os.environ["TRAIN_CASES"]).read_text(encoding="utf-8")):
        train(composed(overrides))


def main() -> None:
    """The same of the file that the command line names."""
    os.environ["TRAIN_CASES"] = sys.argv[1]
    command(Config())
    shutdown()


if __name__ == "__main__":
    main()
