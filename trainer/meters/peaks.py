"""The most operations a second that a rank could do: by its maker, and as a large product measures it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from trainer.config.schema import Precision
from trainer.estimate.hardware import gpu_named

_SECONDS = 0.05  # of measuring, about
_LARGEST = {
    "cuda": 8192,
    "cpu": 1024,
}  # rows of the matrices: no larger ones are needed to keep it busy
_REPEATS = 8  # products of the largest size: the best one counts, others may be disturbed


@dataclass(frozen=True)
class Peaks:
    """Operations per second of one rank; None where it is not known.

    Attributes:
        device: the processor's name.
        spec: the data sheet's, for the run's precision.
        matmul: of a square product in the run's precision, measured here and now.
    """

    device: str
    spec: float | None
    matmul: float | None

    @property
    def words(self) -> str:
        """For the log: what mfu and mfu_of_matmul are shares of."""
        texts = []
        if self.spec is None:
            texts.append(f"no data sheet's peak is known of {self.device}, there is no mfu")
        else:
            texts.append(f"mfu is of {self.spec / 1e12:,.1f} TFLOP/s ({self.device})")
        if self.matmul is not None:
            texts.append(f"mfu_of_matmul of {self.matmul / 1e12:,.4g} TFLOP/s, measured on rank 0")
        return "; ".join(texts)


def peaks_of(device: torch.device, precision: Precision, measure: bool) -> Peaks:
    """The peaks of this rank.

    Args:
        measure: measure a product, too.
    """
    bf16 = precision is Precision.bf16
    matmul = matmul_peak(device, torch.bfloat16 if bf16 else torch.float32) if measure else None
    if device.type != "cuda":
        return Peaks("this CPU", None, matmul)
    name = torch.cuda.get_device_name(device)
    gpu = gpu_named(name)
    spec = None if gpu is None else gpu.bf16 if bf16 else gpu.fp32
    return Peaks(name, spec, matmul)


def matmul_peak(device: torch.device, dtype: torch.dtype, seconds: float = _SECONDS) -> float:
    """Operations per second of the best square product, with this process's threads.

    Matrices grow until a product takes a good part of the time, as small ones keep no processor busy; a
    CPU that emulates bf16 stays with small ones. Waits for the device: for the start of a run.
    """
    size, best, deadline = 128, 0.0, time.perf_counter() + seconds
    generator = torch.Generator(device).manual_seed(0)  # leaves the training's own alone
    while True:
        # Of zeros a GPU would compute faster than of numbers: it draws less power.
        left, right = (
            torch.empty(2, size, size, device=device).uniform_(generator=generator).to(dtype)
        )
        took = _product(left, right)  # with what the first call of a size sets up
        if took < 4 * seconds:
            took = min(took, _product(left, right))
        best = max(best, 2 * size**3 / took)
        grown = 2 * size
        if took > seconds / 40 or grown > _LARGEST[device.type] or time.perf_counter() > deadline:
            break
        size = grown
    for _ in range(_REPEATS):
        if time.perf_counter() > deadline:
            break
        best = max(best, 2 * size**3 / _product(left, right))
    if device.type == "cuda":
        del left, right
        torch.cuda.empty_cache()  # the training needs the room
    return best


def _product(left: torch.Tensor, right: torch.Tensor) -> float:
    """Seconds of a product."""
    if left.is_cuda:
        torch.cuda.synchronize(left.device)
    start = time.perf_counter()
    torch.mm(left, right)
    if left.is_cuda:
        torch.cuda.synchronize(left.device)
    return time.perf_counter() - start
