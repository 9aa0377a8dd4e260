"""Started under torchrun by the integration tests: trains every case of a JSON file.

Each case is a list of Hydra overrides. One process group serves all of them, as importing PyTorch and
DeepSpeed takes longer than the few steps of a case.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from launching import composed

from trainer.distributed import shutdown
from trainer.train import train


def main() -> None:
    """Train each case in turn."""
    for overrides in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        train(composed(overrides))
    shutdown()


if __name__ == "__main__":
    main()
