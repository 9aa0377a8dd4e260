"""Rules on what generates the answers of an evaluation."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from data_modules.faults import Fault
from trainer.config.schema import AnswerEngine, Config, Init

_KEY = "evaluation.engine"
_OTHERWISE = f"leave {_KEY}={AnswerEngine.transformers.value}."


def live_engine_faults(config: Config) -> Iterator[Fault]:
    """A fault if answers of a model in this process are asked of vLLM."""
    if config.evaluation.engine is AnswerEngine.vllm:
        remedy = f"Evaluate an exported phase by launch/evaluate.py, or {_OTHERWISE}"
        yield Fault(
            _KEY, "vllm", "vLLM answers for a model directory, in launch/evaluate.py", remedy
        )


def vllm_faults(config: Config, world_size: int) -> Iterator[Fault]:
    """Why vLLM cannot answer for a model directory, where it is asked to.

    Args:
        world_size: ranks that evaluate.
    """
    if config.evaluation.engine is not AnswerEngine.vllm:
        return
    if importlib.util.find_spec("vllm") is None:
        remedy = f"Install it (pip install -e '.[vllm]'), or {_OTHERWISE}"
        yield Fault(_KEY, "vllm", "vLLM must be installed", remedy)
    if config.init_from is None and config.model.init is Init.random:
        remedy = f"Set init_from, or {_OTHERWISE}"
        yield Fault(_KEY, "vllm with random weights", "vLLM loads a model directory", remedy)
    if world_size > 1:
        remedy = f"Start it with python, without a launcher, or {_OTHERWISE}"
        yield Fault(_KEY, f"vllm with {world_size} ranks", "one process asks vLLM", remedy)
