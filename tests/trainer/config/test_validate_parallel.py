"""Rules on sequence parallelism and ZeRO++."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.faults import ConfigFault
from tests.shared_config import faults_of, put, sound_config
from trainer.config.schema import Config
from trainer.config.validate import validate, validate_device


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return sound_config(tmp_path)


@pytest.mark.parametrize("key", ["sequence_parallel_size", "zero.hpz_partition_size"])
def test_groups_of_ranks_divide_the_ranks(config: Config, key: str) -> None:
    config.zero.stage = 3
    put(key, 0)(config)
    (fault,) = faults_of(config, 4)
    assert (fault.where, fault.rule) == (key, "it must be at least 1")
    put(key, 3)(config)
    config.global_batch_size = 12
    (fault,) = faults_of(config, 4)
    assert (fault.where, fault.seen) == (key, "3 with 4 ranks")
    assert fault.rule == "it must divide the number of ranks"
    assert "WORLD_SIZE=3" in fault.remedy
    validate(config, 6)
    validate(config, None)  # nothing is trained: the ranks of an evaluation do not matter
    with pytest.raises(ConfigFault):
        validate(config, 1)


@pytest.mark.parametrize(
    ("ranks", "parts", "micro", "packing", "unit"),
    [
        (8, 2, 1, True, "4 groups of 2 ranks = 4"),
        (8, 4, 3, False, "2 groups of 4 ranks x micro_batch_size 3 = 6"),
    ],
)
def test_batches_divide_by_groups(
    config: Config, ranks: int, parts: int, micro: int, packing: bool, unit: str
) -> None:
    config.sequence_parallel_size, config.micro_batch_size = parts, micro
    config.data.packing = packing
    config.global_batch_size = 10
    (fault,) = faults_of(config, ranks)
    assert (fault.where, fault.rule) == ("global_batch_size", f"it must be divisible by {unit}")
    config.global_batch_size = 12  # not by the number of ranks
    validate(config, ranks)


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [
        ("hpz_partition_size", 2, "2 with stage 2"),
        ("quantized_weights", True, "true with stage 2"),
        ("quantized_gradients", True, "true with stage 2"),
    ],
)
def test_zeropp_is_for_stage_3(config: Config, name: str, value: object, seen: str) -> None:
    put(f"zero.{name}", value)(config)
    (fault,) = faults_of(config, 2)
    assert (fault.where, fault.seen) == (f"zero.{name}", seen)
    assert fault.rule == "ZeRO++ saves traffic of stage 3 alone"
    assert fault.remedy == "Choose zero=zeropp."
    config.zero.stage = 3
    validate(config, 2)


def test_quantisers_need_a_gpu_where_the_training_runs(config: Config) -> None:
    config.zero.stage = 3
    config.zero.hpz_partition_size = 2
    validate_device(config, cuda=False)
    config.zero.quantized_weights = config.zero.quantized_gradients = True
    validate(config, 2)  # a plan, or a job's submission, may be made where there is none
    validate_device(config, cuda=True)
    with pytest.raises(ConfigFault) as caught:
        validate_device(config, cuda=False)
    assert [fault.where for fault in caught.value.faults] == [
        "zero.quantized_weights",
        "zero.quantized_gradients",
    ]
