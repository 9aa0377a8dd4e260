"""What is proposed fits, is the fastest that does, and is said to be missing where nothing fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from trainer.config.schema import Config, EstimateConfig, Init
from trainer.estimate.estimate import Traced, Untraceable, Workload, estimate
from trainer.estimate.hardware import Cluster, cluster_of
from trainer.estimate.propose import Proposal, overrides, propose
from trainer.estimate.setup import setup_of
from trainer.estimate.view import print_proposal


def made_config(**changes: Any) -> Config:
    config = Config(estimate=EstimateConfig(gpu="a100_40"), global_batch_size=32)
    config.model.init = Init.random
    config.model.architecture = {
        "model_type": "llama",
        "vocab_size": 512,
        "hidden_size": 256,
        "intermediate_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
    }
    config.data.max_seq_len, config.data.packing = 512, True
    config.zero.reduce_bucket_size = 100_000
    config.checkpoint.sharded = False
    for key, value in changes.items():
        setattr(config, key, value)
    return config


CONFIG = made_config()
CONSOLE = Console(width=500)
MODEL = Traced(CONFIG, None, True)
WORK = Workload.full(CONFIG)


def of_memory(size: int, host: int | None = None, per_node: int = 4) -> Cluster:
    """A node whose GPUs have so many bytes."""
    cluster = cluster_of(CONFIG, 1, per_node)
    assert cluster is not None
    return replace(cluster, memory=size, host_memory=host)


def proposed(size: int, host: int | None = None) -> Proposal:
    return propose(CONFIG, MODEL, WORK, of_memory(size, host))


def need(proposal: Proposal) -> int:
    assert proposal.best is not None
    return proposal.best.device.device_peak.total


def test_with_memory_to_spare_nothing_is_offloaded_or_computed_twice() -> None:
    found = proposed(10**12)
    assert found.best is not None
    setup = found.best.setup
    assert overrides(setup)[1:3] == ["zero.offload_optimizer=none", "zero.offload_parameters=none"]
    assert not setup.checkpointing
    assert setup.micro_batch == 8  # all of a rank's rows at once
    assert found.tried > 20


@pytest.mark.parametrize("size", [30_000_000, 60_000_000, 120_000_000, 240_000_000, 10**9])
def test_what_is_proposed_fits(size: int) -> None:
    assert need(proposed(size)) <= size


def test_more_memory_is_never_slower() -> None:
    times = []
    for size in (30_000_000, 60_000_000, 120_000_000, 240_000_000, 10**9):
        best = proposed(size).best
        assert best is not None
        assert best.time is not None
        times.append(float(f"{best.time.seconds:.2g}"))  # as they are compared
    assert times == sorted(times, reverse=True)
    assert times[0] > times[-1]


def test_where_nothing_fits_the_nearest_is_named() -> None:
    found = proposed(1_000_000)
    assert found.best is None
    assert found.nearest is not None
    setup = found.nearest.setup
    assert (setup.stage, setup.offload_optimizer, setup.micro_batch) == (3, True, 1)
    assert found.nearest.device.device_peak.total > 1_000_000


def test_hosts_bound_what_is_proposed() -> None:
    # every rank loads the model in fp32
    least = 4 * (4 * MODEL.shape.parameters)
    found = proposed(10**12, host=least // 2)
    assert found.best is None
    assert found.nearest is not None
    assert not found.nearest.fits_host
    with CONSOLE.capture() as shown:
        print_proposal(CONSOLE, found, found.nearest)
    assert "of a host's 0.02 GiB" in shown.get()
    assert "Take hosts with more memory" in shown.get()
    assert proposed(10**12, host=4 * least).best is not None


def test_a_model_that_does_not_run_without_values_is_named() -> None:
    config = made_config()
    # attention over a window is refused in training, too
    window = {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}
    config.model.architecture |= {"model_type": "qwen2", **window}
    with pytest.raises(Untraceable, match="sliding-window attention is not supported"):
        estimate(config, Traced(config, None, False), WORK, 4, None)


def test_rows_that_cannot_be_dealt_leave_nothing_to_try() -> None:
    config = made_config(global_batch_size=30)
    work = Workload.full(config)
    found = propose(config, Traced(config, None, True), work, of_memory(10**12))
    assert found == Proposal(None, None, 0)


def test_the_proposed_overrides_make_the_proposed_setup() -> None:
    from hydra import compose, initialize_config_dir

    from launch.composing import REPOSITORY, addable
    from trainer.config.strict_merge import to_config

    found = proposed(60_000_000)
    assert found.best is not None
    same = ("data.packing=true", "data.max_seq_len=512", "global_batch_size=32")
    more = ("zero.reduce_bucket_size=100000", "checkpoint.sharded=false")
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        words = addable([*same, *more, *overrides(found.best.setup)])
        config = to_config(compose("train", overrides=words))
    again = estimate(config, MODEL, WORK, 4, of_memory(60_000_000))
    assert again.device.device_peak == found.best.device.device_peak
    assert setup_of(config, 4).micro_batch == found.best.setup.micro_batch
