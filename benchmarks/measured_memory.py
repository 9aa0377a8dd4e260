"""Peak memory of real training steps on this rank: build the engine as a run does, train, look.

On a GPU it is what PyTorch's allocator held at most. On a CPU it is the process's resident memory (the
kernel's ``VmHWM``) above what it was before the model was made, behind a few steps of a tiny model: what
Python and DeepSpeed load on the way is not taken for the model's. Freed memory has to leave the process for
that. glibc keeps blocks of up to 32 MB once it has freed one of that size, so the size from which it maps
blocks of their own is fixed.
"""

from __future__ import annotations

import copy
import ctypes
import gc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from data_modules.collate import Batch, collate
from data_modules.samples import Sample, SampleStore
from trainer.checkpoint.live_state import owned_fragments
from trainer.checkpoint.writer import Writer
from trainer.config.schema import Config
from trainer.engine import ZeroEngine
from trainer.model import adapt, load_model

_STEPS = 3  # ZeRO-3 gathers by its trace from the third on
_MMAP_THRESHOLD, _TRIM_THRESHOLD = -3, -1  # of mallopt(3)
_BLOCK = 65_536
_TINY = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "vocab_size": 64,
}


@dataclass(frozen=True)
class Measured:
    """Bytes of this rank.

    Attributes:
        resident: peak of the process's resident memory above the baseline; on a GPU, peak allocated.
        tensors: peak of what tensors took by PyTorch's own count; None if it was not asked for.
    """

    resident: int
    tensors: int | None = None


class _Tokens:
    """The little of a tokenizer that a random model asks for."""

    bos_token_id = eos_token_id = pad_token_id = 0

    def __init__(self, config: Config) -> None:
        self._size = int(config.model.architecture["vocab_size"])

    def __len__(self) -> int:
        return self._size


def measure(
    config: Config,
    device: torch.device,
    rank: int,
    ranks: int,
    scratch: Path,
    tensors: bool = False,
) -> Measured:
    """Train a few steps of full packed micro-batches; with ``checkpoint.sharded``, save behind them.

    Args:
        scratch: where a checkpoint goes.
        tensors: let PyTorch's profiler count tensors, too. It takes memory itself: ``resident`` is too high
            then.
    """
    fix_allocator()
    tiny = copy.deepcopy(config)
    tiny.model.architecture |= _TINY
    tiny.data.max_seq_len = 8
    tiny.zero.reduce_bucket_size = tiny.zero.allgather_bucket_size = 10_000
    _train(tiny, device, rank, ranks, scratch / "tiny")
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        _train(config, device, rank, ranks, scratch / "run")
        return Measured(torch.cuda.max_memory_allocated() - before)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # VmHWM begins anew
    if not tensors:
        _train(config, device, rank, ranks, scratch / "run")
        return Measured(_status("VmHWM") - before)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        _train(config, device, rank, ranks, scratch / "run")
    return Measured(_status("VmHWM") - before, _most(profiled))


def fix_allocator() -> None:
    """Have freed blocks given back at once."""
    libc = ctypes.CDLL(None)
    for option in (_MMAP_THRESHOLD, _TRIM_THRESHOLD):
        assert libc.mallopt(option, _BLOCK) == 1, "glibc knows the option"


def _train(config: Config, device: torch.device, rank: int, ranks: int, scratch: Path) -> None:
    torch.manual_seed(0)
    model = load_model(config.model, _Tokens(config), None, config.seed)
    engine = ZeroEngine(adapt(model, config.adaptation), 1, config, device, ranks)
    del model
    micro_steps = max(1, config.global_batch_size // (ranks * config.micro_batch_size))
    batches = [_batch(config, number) for number in range(micro_steps)]
    for _ in range(_STEPS):
        engine.train_step(batches, 1e-5).read()
    if config.checkpoint.sharded:
        writer = Writer(scratch, rank, ranks, "measured", 1, 600.0)
        copied = writer._copied(owned_fragments(engine, rank, ranks))
        assert copied, "every rank holds something"
    engine.engine.destroy()


def _batch(config: Config, number: int) -> Batch:
    """Random tokens, all of them answers, as long as they may be."""
    length, rows = config.data.max_seq_len, config.micro_batch_size
    draw = np.random.default_rng(number)
    size = int(config.model.architecture["vocab_size"])
    supervised = np.arange(length) > 0
    samples = [Sample("qa", draw.integers(0, size, length), supervised) for _ in range(rows)]
    store = SampleStore.build(("qa",), samples)
    weights = np.full(rows, 1e-4)
    return collate(store, np.arange(rows), weights, 0, config.data.packing, empty=False)


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    value = next(line.split()[1] for line in lines if line.startswith(f"{name}:"))
    return 1024 * int(value)


def _most(profiled: Any) -> int:
    events = [one for one in profiled.profiler.kineto_results.events() if one.name() == "[memory]"]
    events.sort(key=lambda one: one.start_ns())
    return int(np.cumsum([one.nbytes() for one in events]).max())
