"""Bytes on the wire and seconds of a step, counted on paper."""

from __future__ import annotations

from typing import Any

import pytest

from tests.shared_estimate import made_pass, made_setup, made_shape
from trainer.config.schema import Config, EstimateConfig
from trainer.distributed import Ranks
from trainer.estimate.duration import duration, operations
from trainer.estimate.estimate import Workload
from trainer.estimate.hardware import BETWEEN, GPUS, WITHIN, Cluster, cluster_of, sizes_of
from trainer.estimate.volume import Volume, volume

SHAPE = made_shape()
P = SHAPE.parameters
SETTINGS = EstimateConfig(mfu=0.5, link_share=0.5, overlap=0.5)


def sent(ranks: int = 4, **changes: Any) -> Volume:
    setup = made_setup(ranks=ranks, **changes)
    return volume(SHAPE, setup, made_pass(SHAPE))


def made_cluster(**changes: Any) -> Cluster:
    gpu = GPUS["h100"]
    values: dict[str, Any] = {
        "gpu": gpu,
        "nodes": 1,
        "gpus_per_node": 4,
        "within": 1e9,
        "between": None,
        "host_link": 1e9,
        "memory": gpu.memory,
        "host_memory": None,
    }
    return Cluster(**{**values, **changes})


def test_stage_0_all_reduces_fp32_gradients_once() -> None:
    found = sent(stage=0, bytes_per_weight=4)
    assert found == Volume(2 * 3 / 4 * 4 * P, 0.0, 0.0, 0.0)


def test_stage_1_reduces_once_and_gathers_weights() -> None:
    found = sent(stage=1, micro_steps=5)
    assert (found.gradients, found.weights) == (2 * 3 / 4 * 2 * P, 3 / 4 * 2 * P)


def test_stage_2_reduces_in_every_micro_step() -> None:
    found = sent(stage=2, micro_steps=5, overlap=True)
    assert found.gradients == 5 * 2 * 3 / 4 * 2 * P
    assert found.weights == 3 / 4 * 2 * P
    assert found.hideable == found.gradients
    # only the owner of a part needs its sum
    assert sent(stage=2, micro_steps=5, multi_rank_reduce=False).gradients == found.gradients / 2


def test_stage_3_gathers_twice_what_it_may_not_keep() -> None:
    found = sent(stage=3, micro_steps=5)
    assert found.gradients == 5 * 3 / 4 * 2 * P
    assert found.weights == 2 * 5 * 3 / 4 * 2 * P
    assert sent(stage=3, micro_steps=5, max_reuse=10**9).weights == found.weights / 2


def test_ranks_that_share_sequences_swap_activations() -> None:
    assert sent().activations == 0
    found = sent(parts=2, micro_batch=1, length=16, micro_steps=3)
    # q, k, v and output of 8 layers, 8 of the 16 positions, half of them from elsewhere, there and back
    assert found.activations == 3 * 2 * 4 * 8 * (8 * 1000 * 2) / 2
    assert found.sent == found.gradients + found.weights + found.activations


def test_positions_are_cut_and_groups_are_fewer() -> None:
    setup = made_setup(ranks=8, parts=4, micro_batch=3, length=10)
    assert (setup.groups, setup.positions) == (2, 8)  # 30 positions, filled up to 32
    assert made_setup(parts=4, micro_batch=3, length=10, packing=False).positions == 3 * 3
    work = Workload(rows=12, tokens=120.0, sample=10.0, planned=False)
    assert work.micro_steps(setup) == 2
    assert work.micro_steps(made_setup(ranks=8, micro_batch=3, length=10)) == 1


def test_one_rank_sends_nothing() -> None:
    for stage in (1, 2, 3):
        assert sent(ranks=1, stage=stage).sent == 0
        assert sent(ranks=1, stage=stage).host == 0


def test_an_offloaded_optimizer_gets_gradients_and_gives_weights() -> None:
    assert sent(stage=2, offload_optimizer=True).host == P / 4 * (4 + 2)
    # under stage 3 the gradients are added on the host, behind every further micro-step
    found = sent(stage=3, offload_optimizer=True, micro_steps=3)
    assert found.host == P / 4 * (4 + 2) + 2 * 2 * 4 * P / 4


def test_operations_of_a_token() -> None:
    # every weight twice forward, twice for activations, twice for itself
    attention = 3 * 2 * SHAPE.layers * SHAPE.width * 100
    assert operations(SHAPE, made_setup(), 100) == 6 * P + attention
    again = 2 * P + attention / 3
    assert operations(SHAPE, made_setup(checkpointing=True), 100) == 6 * P + attention + again
    # three quarters of the weights are frozen: their own gradients are not computed
    frozen = made_shape(frozen=6)
    assert operations(frozen, made_setup(), 0) == 4 * P + 2 * P / 4


def test_a_step_is_compute_and_what_is_not_hidden() -> None:
    setup = made_setup(ranks=4)
    wire = Volume(gradients=3e9, weights=1e9, hideable=3e9, host=0.0)
    found = duration(SHAPE, setup, wire, made_cluster(), SETTINGS, tokens=4e6, sample=0)
    compute = 6 * P * 1e6 / (GPUS["h100"].bf16 * 0.5)
    assert found.compute == pytest.approx(compute)
    assert found.communication == pytest.approx(4e9 / 0.5e9)
    assert found.exposed == pytest.approx(8 - 0.5 * compute)
    assert found.update == pytest.approx(32 * P / 4 / GPUS["h100"].bandwidth)
    assert found.seconds == found.compute + found.exposed + found.update
    # much to compute hides all that can be hidden, and no more
    long = duration(SHAPE, setup, wire, made_cluster(), SETTINGS, tokens=4e9, sample=0)
    assert long.exposed == pytest.approx(1e9 / 0.5e9)


def test_an_offloaded_update_goes_at_the_speed_of_the_hosts_memory() -> None:
    setup = made_setup(ranks=4, offload_optimizer=True)
    wire = Volume(0.0, 0.0, 0.0, host=5e9)
    found = duration(SHAPE, setup, wire, made_cluster(), SETTINGS, tokens=4, sample=0)
    assert found.update == pytest.approx(32 * P / 4 / (200e9 / 4))
    assert found.host == pytest.approx(5e9 / 0.5e9)


def test_a_ring_is_as_slow_as_its_slowest_link() -> None:
    assert made_cluster(within=3.0).ring == 3.0
    assert made_cluster(within=3.0, between=2.0).ring == 2.0
    assert made_cluster(within=3.0, between=5.0).ring == 3.0


def described(**estimate: Any) -> Config:
    return Config(estimate=EstimateConfig(**estimate))


def test_a_cluster_has_a_port_per_gpu_or_per_node() -> None:
    config = described(gpu="h100", between="ib_ndr", headroom=0.25)
    found = cluster_of(config, 2, 8)
    assert found is not None
    assert found.between == 8 * 50e9
    assert found.within == WITHIN["nvlink4"]
    assert found.memory == int(0.75 * 81_559 * 1024**2)
    found = cluster_of(described(gpu="h100", between="eth_100"), 2, 8)
    assert found is not None
    assert found.between == 12.5e9
    found = cluster_of(described(gpu="h100", between="eth_100", ports=2), 2, 8)
    assert found is not None
    assert found.between == 25e9
    assert cluster_of(described(), 2, 8) is None


def test_sizes_come_from_estimate_then_cluster_then_the_launch() -> None:
    launched = Ranks(0, 6, 0, 3)
    config = described()
    assert sizes_of(config, launched) == (2, 3)
    config.cluster.nodes, config.cluster.gpus_per_node = 4, 8
    assert sizes_of(config, launched) == (4, 8)
    config.cluster.ranks_per_node = 2
    assert sizes_of(config, launched) == (4, 2)
    config.estimate.nodes, config.estimate.gpus_per_node = 1, 4
    assert sizes_of(config, launched) == (1, 4)


def test_names_of_links_are_known() -> None:
    assert {gpu.within for gpu in GPUS.values()} <= set(WITHIN)
    assert EstimateConfig().between in BETWEEN
    assert EstimateConfig().host_link in WITHIN
