"""The most memory that was in use, as cheap to read as a counter."""

from __future__ import annotations

import resource

import torch

_KIB = 1024


def peak_memory(device: torch.device) -> dict[str, int]:
    """Peaks of this rank in bytes, and begin anew where that is possible.

    ``allocated`` and ``reserved`` are the GPU's since the last call: what tensors took, and what PyTorch
    took for them. ``resident`` is the process's on the host, since it was started.
    """
    found = {"resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB}
    if device.type == "cuda":
        found["allocated"] = torch.cuda.max_memory_allocated(device)
        found["reserved"] = torch.cuda.max_memory_reserved(device)
        torch.cuda.reset_peak_memory_stats(device)
    return found
