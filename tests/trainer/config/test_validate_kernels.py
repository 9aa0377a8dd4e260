"""Rules on the kernels of a training step."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.faults import ConfigFault
from tests.shared_config import faults_of, put, sound_config
from trainer.config.schema import AdaptationKind, Compile, Config, Liger, Precision
from trainer.config.validate import validate, validate_device


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return sound_config(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "seen"),
    [
        ("zero.stage", 3, "blocks with zero.stage 3"),
        ("model.activation_checkpointing", True, "blocks with model.activation_checkpointing"),
        ("sequence_parallel_size", 2, "blocks with sequence_parallel_size 2"),
        ("adaptation.kind", AdaptationKind.lora, "blocks with adaptation.kind lora"),
        ("kernels.liger", Liger.on, "blocks with kernels.liger on"),
    ],
)
def test_layers_are_compiled_only_where_that_is_right(
    config: Config, key: str, value: object, seen: str
) -> None:
    put(key, value)(config)
    validate(config, 2)
    config.kernels.compile = Compile.blocks
    (fault,) = faults_of(config, 2)
    assert (fault.where, fault.seen) == ("kernels.compile", seen)
    assert "off" in fault.remedy


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_stages_that_keep_weights_whole_may_be_compiled(config: Config, stage: int) -> None:
    config.kernels.compile, config.zero.stage = Compile.blocks, stage
    config.precision = Precision.fp32
    validate(config, 2)


def test_liger_is_refused_without_a_gpu(config: Config) -> None:
    validate_device(config, cuda=False)
    config.kernels.liger = Liger.on
    with pytest.raises(ConfigFault) as caught:
        validate_device(config, cuda=False)
    (fault,) = caught.value.faults
    assert (fault.where, fault.rule) == ("kernels.liger", "there is no GPU here")


def test_compiling_on_a_cpu_needs_a_compiler(
    config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.kernels.compile = Compile.blocks
    monkeypatch.setenv("CXX", "no-such-compiler")
    validate_device(config, cuda=True)
    with pytest.raises(ConfigFault) as caught:
        validate_device(config, cuda=False)
    (fault,) = caught.value.faults
    assert fault.where == "kernels.compile"
    assert "no compiler 'no-such-compiler' here" in fault.rule
