"""Shares of a peak, computed by hand; which peaks are known."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from tests.shared_estimate import made_shape
from trainer.config.schema import Precision
from trainer.estimate.hardware import GPUS, gpu_named
from trainer.meters import peaks
from trainer.meters.peaks import Peaks, matmul_peak, peaks_of
from trainer.meters.throughput import Throughput
from trainer.step_data import StepData

STEP = StepData([], tokens=100, pairs=2_000, supervised=40, rows={}, answer_tokens={})
SHAPE = made_shape(numel=1000, count=2)
#: 6 a weight and token; 12 x 2 layers x 1000 wide a pair
DONE = 6 * 2000 * 100 + 12 * 2 * 1000 * 2_000


def test_shares_are_of_what_all_ranks_could_do() -> None:
    throughput = Throughput.of(SHAPE, Peaks("gpu", spec=1e9, matmul=5e8), ranks=4)
    found = throughput.rates(STEP, seconds=0.5)
    assert found == {
        "tokens_per_second": 200,
        "supervised_tokens_per_second": 80,
        "mfu": pytest.approx(DONE / (0.5 * 4 * 1e9)),
        "mfu_of_matmul": pytest.approx(DONE / (0.5 * 4 * 5e8)),
    }


def test_what_is_not_known_is_left_out_and_said() -> None:
    alone = Throughput.of(SHAPE, Peaks("this CPU", None, 1e9), 1)
    assert "mfu" not in alone.rates(STEP, 1.0)
    assert "no data sheet's peak is known of this CPU" in alone.words
    assert "0.001 TFLOP/s, measured" in alone.words
    neither = Throughput.of(SHAPE, Peaks("this CPU", None, None), 1)
    assert set(neither.rates(STEP, 1.0)) == {"tokens_per_second", "supervised_tokens_per_second"}
    experts = Throughput.of(replace(SHAPE, has_experts=True), Peaks("gpu", 1e9, 1e9), 1)
    assert set(experts.rates(STEP, 1.0)) == {"tokens_per_second", "supervised_tokens_per_second"}
    assert "experts" in experts.words


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100_pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA A100-SXM4-80GB", "a100_80"),
        ("A100-SXM4-40GB", "a100_40"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("NVIDIA L4", "l4"),
    ],
)
def test_gpus_are_known_by_their_drivers_names(name: str, known: str) -> None:
    assert gpu_named(name) == GPUS[known]


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA H100 80GB HBM3 MIG 1g.10gb",
        "NVIDIA H100 NVL",
        "NVIDIA L40",
        "AMD Instinct MI300X",
        "",
    ],
)
def test_other_gpus_are_not_taken_for_them(name: str) -> None:
    assert gpu_named(name) is None


def test_the_data_sheets_peak_is_that_of_the_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "NVIDIA H200"
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    gpu = torch.device("cuda", 0)
    assert peaks_of(gpu, Precision.bf16, False) == Peaks(name, GPUS["h200"].bf16, None)
    assert peaks_of(gpu, Precision.fp32, False).spec == GPUS["h200"].fp32
    name = "NVIDIA H400"
    unknown = peaks_of(gpu, Precision.bf16, False)
    assert unknown == Peaks("NVIDIA H400", None, None)
    assert "no data sheet's peak is known of NVIDIA H400" in unknown.words


def test_a_measured_peak_is_not_far_from_a_plain_measurement() -> None:
    found = matmul_peak(torch.device("cpu"), torch.float32)
    one, other = torch.rand(2, 512, 512)
    seconds = []
    for _ in range(10):
        start = time.perf_counter()
        torch.mm(one, other)
        seconds.append(time.perf_counter() - start)
    assert found == pytest.approx(2 * 512**3 / min(seconds), rel=0.9)


def test_measuring_stops_in_time_and_leaves_the_generators_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, before = 0.0, torch.get_rng_state()

    def slow(left: torch.Tensor, _: torch.Tensor) -> float:
        """An emulated product: 100 operations a microsecond."""
        nonlocal clock
        took = 2 * len(left) ** 3 / 1e8
        clock += took
        return took

    monkeypatch.setattr(peaks, "_product", slow)
    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    assert matmul_peak(torch.device("cpu"), torch.bfloat16) == pytest.approx(1e8)
    assert clock < 0.1
    assert torch.equal(torch.get_rng_state(), before)


def test_what_a_first_product_sets_up_is_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As oneDNN compiles a kernel for bf16 on a CPU: a hundred times the product's own time."""
    calls: list[int] = []

    def product(left: torch.Tensor, _: torch.Tensor) -> float:
        calls.append(len(left))
        return 0.1 if len(calls) == 1 else 0.01

    monkeypatch.setattr(peaks, "_product", product)
    found = matmul_peak(torch.device("cpu"), torch.bfloat16)
    assert found == pytest.approx(2 * 128**3 / 0.01)
