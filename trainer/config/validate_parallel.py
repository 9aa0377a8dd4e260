"""Rules on what ranks share: sequences, and ZeRO++'s copies of the weights."""

from __future__ import annotations

from collections.abc import Iterator

from data_modules.faults import Fault
from trainer.config.rules import at_least
from trainer.config.schema import Config

#: ZeRO++ fields of ``zero``, and whether they need GPUs.
_QUANTIZERS = ("quantized_weights", "quantized_gradients")
_DIVIDES = "it must divide the number of ranks"


def parallel_faults(config: Config, ranks: int | None) -> Iterator[Fault]:
    """Faults of sequence parallelism and ZeRO++.

    Args:
        ranks: of the training; None where nothing is trained, and their number does not matter.
    """
    zero, faults = config.zero, list[Fault]()
    for key, count in (
        ("sequence_parallel_size", config.sequence_parallel_size),
        ("zero.hpz_partition_size", zero.hpz_partition_size),
    ):
        before = len(faults)
        at_least(key, count, 1, faults)
        if len(faults) == before and ranks is not None and ranks % count:
            remedy = f"Start as many ranks (to see a plan: WORLD_SIZE={count}), or set {key}=1."
            faults.append(Fault(key, f"{count} with {ranks} ranks", _DIVIDES, remedy))
    asked = [name for name in _QUANTIZERS if getattr(zero, name)]
    if zero.hpz_partition_size > 1:
        asked.insert(0, "hpz_partition_size")
    if zero.stage != 3:
        for name in asked:
            seen = f"{_shown(getattr(zero, name))} with stage {zero.stage}"
            rule = "ZeRO++ saves traffic of stage 3 alone"
            faults.append(Fault(f"zero.{name}", seen, rule, "Choose zero=zeropp."))
    yield from faults


def device_faults(config: Config, cuda: bool) -> Iterator[Fault]:
    """What the machine that trains cannot do.

    Args:
        cuda: it has GPUs.
    """
    for name in _QUANTIZERS:
        if getattr(config.zero, name) and not cuda:
            rule = "DeepSpeed quantises by CUDA kernels, and there is no GPU here"
            yield Fault(f"zero.{name}", "true", rule, f"Set zero.{name}=false.")


def _shown(value: object) -> str:
    return str(value).lower()
