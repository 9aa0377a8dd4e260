"""Started under torchrun by test_exactness: trains every case of a JSON file through the real run.

Each case is a list of Hydra overrides. One process group serves all of them, as importing PyTorch and
DeepSpeed takes longer than the twenty steps of a case.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from hydra import compose, initialize_config_dir

from launch.composing import addable, prepare_root
from trainer.config.strict_merge import to_config
from trainer.distributed import shutdown
from trainer.train import train

CONF = Path(__file__).resolve().parents[2] / "conf"


def main() -> None:
    """Train each case in turn."""
    for overrides in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        with initialize_config_dir(str(CONF), version_base="1.3"):
            config = to_config(compose("train", addable(overrides)))
        prepare_root(config)
        train(config)
    shutdown()


if __name__ == "__main__":
    main()
