"""Bytes of every ZeRO stage, counted on paper and by DeepSpeed's own estimators of model states."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from deepspeed.runtime.zero.stage3 import estimate_zero3_model_states_mem_needs
from deepspeed.runtime.zero.stage_1_and_2 import estimate_zero2_model_states_mem_needs

from tests.shared_estimate import STATES, made_pass, made_setup, made_shape
from trainer.estimate.gathering import gathered, gathered_in_pass
from trainer.estimate.ledger import Ledger
from trainer.estimate.replay import replay

SHAPE = made_shape()
P = SHAPE.parameters


def ledger(**changes: Any) -> Ledger:
    setup = made_setup(**changes)
    traced = made_pass(SHAPE, bytes_per_weight=setup.bytes_per_weight)
    return replay(SHAPE, setup, traced).worst


def states(parts: dict[str, int]) -> int:
    return sum(parts.get(name, 0) for name in STATES)


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_stage_2_is_deepspeeds_estimate(ranks: int) -> None:
    host, theirs = estimate_zero2_model_states_mem_needs(P, ranks, 1, False, 1.0)
    # buckets smaller than a weight: bf16 gradients of a rank's own stay until the backward is over
    ours = ledger(ranks=ranks)
    backward = states(ours.device_in("forward and backward").parts)
    one = 2 * 1_000_000
    assert theirs - one <= backward <= theirs + one
    # and are gone before the update
    assert states(ours.device_in("update").parts) == pytest.approx(theirs - 2 * P / ranks, rel=1e-3)
    # DeepSpeed, too, counts a model in fp32 on the host for every rank
    assert ranks * ours.host_peak.total == host + ranks * one


@pytest.mark.parametrize("ranks", [1, 2, 8])
def test_stage_2_with_offload_adds_only_the_fp32_accumulators_on_the_device(ranks: int) -> None:
    _, theirs = estimate_zero2_model_states_mem_needs(P, ranks, 1, True, 1.0)
    ours = ledger(ranks=ranks, reduce_bucket=P, offload_optimizer=True)
    assert states(ours.device_in("update").parts) == pytest.approx(theirs + 4 * P / ranks, rel=1e-3)
    # on the host: master, gradient and two moments, as DeepSpeed says for up to four ranks
    assert states(ours.host.copy()) == pytest.approx(16 * P / ranks, rel=1e-3)


@pytest.mark.parametrize("ranks", [1, 2, 8])
@pytest.mark.parametrize(("optimizer", "parameters"), [(False, False), (True, False), (True, True)])
def test_stage_3_is_deepspeeds_estimate(ranks: int, optimizer: bool, parameters: bool) -> None:
    _, theirs, largest = estimate_zero3_model_states_mem_needs(
        P, 0, ranks, 1, optimizer, parameters, False, 1.0
    )
    assert largest == 0
    # the bucket takes all, so that no gradient stands beside it
    ours = ledger(
        stage=3,
        ranks=ranks,
        reduce_bucket=P,
        offload_optimizer=optimizer,
        offload_parameters=parameters,
    )
    assert states(dict(ours.device)) == pytest.approx(theirs, rel=1e-3)


def test_stage_0_holds_all_of_everything_and_one_flat_copy_of_the_gradients() -> None:
    ours = ledger(stage=0, bytes_per_weight=4)
    assert ours.device_peak.when == "update"
    assert ours.device_peak.total == (4 + 4 + 8 + 4) * P


def test_stage_0_flattens_no_more_than_deepspeeds_bucket() -> None:
    large = made_shape(numel=400_000_000, count=4)
    traced = made_pass(large, bytes_per_weight=4)
    peak = replay(large, made_setup(stage=0, bytes_per_weight=4), traced).worst.device_peak
    # a bucket ends behind the weight that makes it more than 500 million elements
    assert peak.total == 16 * large.parameters + 4 * 800_000_000


def test_stage_1_in_bf16_keeps_fp32_gradients_of_all_weights_beside_bf16_ones() -> None:
    ours = ledger(stage=1)
    # weights 2, masters 4/2, accumulators 4, bf16 gradients 2, moments 8/2, and 2 on the wire
    assert ours.device_peak.total == 16 * P


def test_stage_1_in_fp32_accumulates_whole_gradients() -> None:
    ours = ledger(stage=1, bytes_per_weight=4, reduce_bucket=10)
    passing = 4 + 2 + 4 + 4  # weights, masters, gradients, moments
    # the gradients that a rank owns are copied while most of the others are still there
    assert passing * P < ours.device_peak.total < (passing + 4) * P


def test_frozen_weights_have_no_states() -> None:
    shape = made_shape(frozen=7)
    for stage in (2, 3):
        setup = made_setup(stage=stage, reduce_bucket=P)
        peak = replay(shape, setup, made_pass(shape)).worst.device
        weights = 2 * shape.parameters // (1 if stage == 2 else 2)
        assert peak["weights"] == weights
        assert peak["moments"] == 8 * 1_000_000 // 2
        assert peak["masters"] == 4 * 1_000_000 // 2


def test_stage_3_gathers_the_weight_in_use_and_what_comes_next_if_it_may_keep_none() -> None:
    setup = made_setup(stage=3, max_reuse=1)
    found = gathered(made_pass(SHAPE).visits, SHAPE.numels, setup)
    # at the turn the last weight is used at once again, so two more are gathered ahead
    in_weights = [one // 1_000_000 for one in found]
    assert in_weights == [2, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 2, 1]
    # all of them twice but the last, which was still there
    assert gathered_in_pass(made_pass(SHAPE).visits, SHAPE.numels, setup) == 15 * 1_000_000


def test_stage_3_keeps_all_weights_that_it_may_keep() -> None:
    ours = ledger(stage=3, max_reuse=10**9)
    assert ours.device_in("forward and backward").parts["gathered"] == 2 * P


def test_stage_3_starts_with_the_whole_model_on_the_device() -> None:
    setup = made_setup(stage=3, ranks=64, reduce_bucket=P // 100)
    peak = replay(SHAPE, setup, made_pass(SHAPE)).worst.device_peak
    assert (peak.when, peak.parts["weights"]) == ("engine start", 2 * P)


def test_a_second_copy_of_the_weights_is_held_by_fewer_ranks() -> None:
    found = ledger(stage=3, ranks=8, copy_parts=2).device
    assert found["second copy of weights"] == 2 * P // 2
    assert "second copy of weights" not in ledger(stage=3, ranks=8).device


def test_a_checkpoint_is_a_copy_on_the_host() -> None:
    ours = ledger(keeps_checkpoints=True)
    assert ours.host["checkpoint copy"] == 12 * P // 2
    assert "checkpoint copy" not in ledger().host


def test_every_rank_loads_the_model_in_fp32() -> None:
    assert ledger(bytes_per_weight=4, stage=3).host_peak.total == 4 * P


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_more_ranks_need_less_each(stage: int) -> None:
    needs = [ledger(stage=stage, ranks=ranks).device_peak.total for ranks in (1, 2, 4, 8)]
    assert needs == sorted(needs, reverse=True)
    assert needs[0] > needs[-1]


def test_higher_stages_need_less() -> None:
    setup = made_setup(ranks=8, reduce_bucket=1_000_000)
    traced = made_pass(SHAPE)
    needs = [
        replay(SHAPE, replace(setup, stage=stage), traced).worst_device.device_peak.total
        for stage in (1, 2, 3)
    ]
    assert needs == sorted(needs, reverse=True)
    assert len(set(needs)) == 3


def test_activations_are_added_to_what_is_held() -> None:
    setup = made_setup()
    plain = replay(SHAPE, setup, made_pass(SHAPE)).worst.device_peak.total
    more = replay(SHAPE, setup, made_pass(SHAPE, activations=10**9)).worst.device_peak
    assert more.when == "forward and backward"
    assert more.total == plain + 10**9
