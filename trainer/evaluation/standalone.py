"""Evaluate a model directory, ours or anyone's, without training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from data_modules.evaluation_rows import EvalRow
from data_modules.faults import ConfigFault
from trainer import distributed
from trainer.config.schema import AnswerEngine, Config, Init
from trainer.config.validate import validate
from trainer.config.validate_engine import vllm_faults
from trainer.console import LOGGER, make_console, quieten_libraries, start_logging
from trainer.evaluation import results
from trainer.evaluation.evaluate import Evaluator
from trainer.evaluation.generate import Answer
from trainer.evaluation.model import LoadedModel
from trainer.evaluation.results import Evaluation
from trainer.evaluation.vllm_engine import vllm_answers
from trainer.model import load_model
from trainer.summary import print_summary
from trainer.train import make_data


def evaluate_directory(config: Config) -> Evaluation:
    """Evaluate ``init_from``, else the model itself, under the ranks that the launcher started.

    Prompts are those of the last selected phase. Writes ``evaluation/evaluation.json``, the answers and
    the leaks into the run directory.

    Raises:
        UserFault: on every rank, before anything is evaluated.
    """
    ranks = distributed.ranks_from_environment()
    validate(config, dp_world_size=None)
    if faults := list(vllm_faults(config, ranks.world_size)):
        raise ConfigFault(faults)
    quieten_libraries()
    distributed.set_threads(config.cluster, ranks)
    data = make_data(config, config.init_from)
    device = distributed.init(config.cluster, ranks)
    folder = Path(config.output_dir) / "evaluation"
    start_logging(folder / f"rank_{ranks.rank}.log", ranks.is_main)
    random = config.init_from is None and config.model.init is Init.random
    name = "random weights" if random else str(config.init_from or config.model.path)
    model = distributed.on_every_rank(
        ranks, lambda: load_model(config.model, data.tokenizer, config.init_from, config.seed)
    )
    phase = list(data.mixtures)[-1]
    LOGGER.info("Evaluates %s with the prompts of phase '%s'.", name, phase)

    def by_vllm(_: object, rows: Sequence[EvalRow], limits: Sequence[int]) -> list[Answer]:
        return vllm_answers(config, data.tokenizer, rows, limits)

    engine = by_vllm if config.evaluation.engine is AnswerEngine.vllm else None
    evaluator = Evaluator(data, config.evaluation, config.seed, ranks.rank, engine=engine)
    loaded = LoadedModel(model, len(data.tasks), device, ranks.world_size)
    found = evaluator.evaluate(loaded, phase, folder)
    if ranks.is_main:
        results.save(folder / "evaluation.json", found)
        console = make_console()
        print_summary(console, {Path(name).name: found})
        console.print(f"evaluation: {folder / 'evaluation.json'}", soft_wrap=True)
    return found
