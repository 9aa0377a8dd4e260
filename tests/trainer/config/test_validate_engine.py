"""Rules on what generates the answers of an evaluation."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from tests.shared_config import faults_of, sound_config
from trainer.config.schema import AnswerEngine, Config, Init
from trainer.config.validate import validate
from trainer.config.validate_engine import live_engine_faults, vllm_faults


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    made = sound_config(tmp_path)
    made.evaluation.engine = AnswerEngine.vllm
    return made


def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.__spec__ = ModuleSpec("vllm", None)
    monkeypatch.setitem(sys.modules, "vllm", module)


def test_a_run_does_not_ask_vllm(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    installed(monkeypatch)
    (fault,) = faults_of(config)
    assert (fault.where, fault.seen) == ("evaluation.engine", "vllm")
    assert fault.rule == "vLLM answers for a model directory, in launch/evaluate.py"
    assert "launch/evaluate.py" in fault.remedy
    assert "evaluation.engine=transformers" in fault.remedy
    validate(config, None)  # nothing is trained
    config.evaluation.engine = AnswerEngine.transformers
    assert list(live_engine_faults(config)) == []
    validate(config, 1)


def test_vllm_must_be_installed(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    (fault,) = vllm_faults(config, 1)
    assert (fault.where, fault.rule) == ("evaluation.engine", "vLLM must be installed")
    assert "pip install -e '.[vllm]'" in fault.remedy
    config.evaluation.engine = AnswerEngine.transformers
    assert list(vllm_faults(config, 2)) == []


def test_vllm_is_asked_by_one_process_for_a_directory(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch)
    assert list(vllm_faults(config, 1)) == []
    config.model.init = Init.random
    ranks, weights = sorted(vllm_faults(config, 2), key=lambda fault: fault.seen)
    assert ranks.seen == "vllm with 2 ranks"
    assert "without a launcher" in ranks.remedy
    assert weights.seen == "vllm with random weights"
    config.init_from = "somewhere"
    assert list(vllm_faults(config, 1)) == []


@pytest.mark.parametrize("memory", [-0.1, 1.5])
def test_the_share_of_memory_is_a_share(config: Config, memory: float) -> None:
    config.evaluation.engine = AnswerEngine.transformers
    config.evaluation.vllm_memory = memory
    (fault,) = faults_of(config)
    assert (fault.where, fault.seen) == ("evaluation.vllm_memory", f"{memory:g}")
