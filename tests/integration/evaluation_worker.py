"""Started under torchrun by test_evaluation: evaluates one run's model under several ZeRO stages.

``python evaluation_worker.py CASES.json`` takes cases of overrides, ``stage`` (None is a model without
an engine, as ``launch/evaluate.py`` has it) and ``folder``. One process group serves all of them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from launching import composed

from trainer import distributed
from trainer.engine import ZeroEngine
from trainer.evaluation import results
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.model import LoadedModel
from trainer.model import load_model
from trainer.train import make_data


def evaluate_case(case: dict[str, Any]) -> None:
    """Evaluate in the running process group; the main rank writes ``evaluation.json``."""
    config = composed(case["overrides"])
    ranks = distributed.ranks_from_environment()
    distributed.set_threads(config.cluster, ranks)
    device = distributed.init(config.cluster, ranks)
    data = make_data(config, None)
    distributed.on_first_local_rank(ranks, data.prepare)
    data.load()
    model: Any = load_model(config.model, data.tokenizer, None, config.seed)
    if case["stage"] is None:
        model = LoadedModel(model, len(data.tasks), device, ranks.world_size)
    else:
        config.zero.stage = case["stage"]
        model = ZeroEngine(model, len(data.tasks), config, device, ranks.world_size)
    folder = Path(case["folder"])
    found = Evaluator(data, config.evaluation, config.seed, ranks.rank).evaluate(
        model, "mix", folder
    )
    if ranks.is_main:
        results.save(folder / "evaluation.json", found)
    else:
        # every rank has the result, not the main rank alone
        results.save(folder / f"rank_{ranks.rank}.json", found)


def main() -> None:
    """Evaluate each case in turn."""
    for case in json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")):
        evaluate_case(case)
    distributed.shutdown()


if __name__ == "__main__":
    main()
