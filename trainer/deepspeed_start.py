"""Starting DeepSpeed: what makes ``deepspeed.initialize`` slow or hang is kept from it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from data_modules.faults import Fault
from trainer.config.schema import ZeroConfig

#: An extension whose folder nobody has written to for so long is not being built any more.
ABANDONED_SECONDS = 15 * 60

_QUANTISERS = "quantizer"
_MUON = "deepspeed.runtime.zero.muon"


def leave_out_muon() -> None:
    """Put stand-ins where DeepSpeed would import its Muon optimizer, for as long as the process lives.

    Its decorators load the whole of torch.compile, seconds of a start. DeepSpeed imports it to ask whether
    our optimizer, or a parameter's group, is one, and nothing here is.
    """
    stand_ins: dict[str, dict[str, Any]] = {
        "muon_optimizer": {"MuonWithAuxAdam": type("MuonWithAuxAdam", (), {})},
        "original_muon": {"muon_update": _no_muon},
    }
    for name, content in stand_ins.items():
        module = ModuleType(f"{_MUON}.{name}")
        vars(module).update(content)
        sys.modules.setdefault(module.__name__, module)


def _no_muon(*_: Any, **__: Any) -> None:
    raise AssertionError("no optimizer of this project is Muon")


def lock_faults(zero: ZeroConfig, now: float | None = None) -> Iterator[Fault]:
    """Locks that killed builds of extensions left: PyTorch waits for them for ever, without a word.

    ``torch.utils.cpp_extension`` keeps a file ``lock`` in an extension's folder while it builds there; who
    finds one waits until it is gone. Only ZeRO++'s quantisers need an extension here: everything else is
    PyTorch's own, or left off because it would have to be compiled (``trainer.distributed``).

    Args:
        now: seconds since 1970; None is the present.
    """
    if not (zero.quantized_weights or zero.quantized_gradients):
        return
    from torch.utils.cpp_extension import get_default_build_root

    now = time.time() if now is None else now
    root = Path(os.environ.get("TORCH_EXTENSIONS_DIR") or get_default_build_root())
    # by default in a folder for each version of Python and CUDA
    for lock in sorted({*root.glob(f"{_QUANTISERS}/lock"), *root.glob(f"*/{_QUANTISERS}/lock")}):
        idle = now - _last_written(lock.parent)
        if idle > ABANDONED_SECONDS:
            yield Fault(
                "zero.quantized_weights, zero.quantized_gradients",
                f"{lock}, where nothing was written for {idle / 60:.0f} minutes",
                "a build that was killed left it, and whoever needs the extension waits for ever for it",
                f"Make sure that no other process builds it, then remove it: rm {lock}",
            )


def _last_written(folder: Path) -> float:
    times = [folder.stat().st_mtime]
    for path in folder.rglob("*"):
        try:
            times.append(path.stat().st_mtime)
        except FileNotFoundError:
            continue  # a build that is running removes what it has done with
    return max(times)
