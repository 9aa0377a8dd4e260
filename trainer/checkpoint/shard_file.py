"""One rank's part of a checkpoint: a safetensors file, hashed while it is written.

The safetensors library writes from memory in one call that holds the interpreter; written in chunks
here, training goes on beside it, and the checksum costs no second reading. Reading is the library's.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

_CHUNK = 1 << 24


@dataclass(frozen=True)
class Written:
    """A finished file.

    Attributes:
        sha256: hexadecimal.
    """

    bytes: int
    sha256: str


def write_shard(path: Path, tensors: Mapping[str, torch.Tensor]) -> Written:
    """Write 1-D fp32 host tensors and see them onto the disk.

    Raises:
        OSError: the disk is full or gone.
    """
    header: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.float32, "checkpoints hold fp32"
        begin, end = end, end + tensor.numel() * 4
        header[name] = {"dtype": "F32", "shape": [tensor.numel()], "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest, total = hashlib.sha256(), 0
    with path.open("wb") as file:
        for raw in (len(text).to_bytes(8, "little"), text):
            file.write(raw)
            digest.update(raw)
            total += len(raw)
        for tensor in tensors.values():
            data = tensor.numpy().view(np.uint8).data
            for at in range(0, len(data), _CHUNK):
                part = data[at : at + _CHUNK]
                file.write(part)
                digest.update(part)
            total += len(data)
        sync(file.fileno())
    return Written(total, digest.hexdigest())


def hash_file(path: Path) -> Written:
    """Read a file and hash it."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return Written(file.tell(), digest.hexdigest())


def sync(descriptor: int) -> None:
    """Wait until a file's bytes are on the disk."""
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Wait until a folder's names are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
