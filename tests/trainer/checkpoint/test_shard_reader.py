"""Shards: any stretch is read whoever wrote it, and nothing else than fp32 stretches is."""

from __future__ import annotations

import json
import pickle
import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load, load_file, save_file

from tests.shared_checkpoint import (
    KINDS,
    SHAPES,
    bits,
    made_config,
    made_state,
    mark_again,
    read_whole,
    whole,
    write_checkpoint,
)
from trainer.checkpoint.folder import Damaged, read_marker
from trainer.checkpoint.live_state import MASTER
from trainer.checkpoint.reader import ShardReader
from trainer.checkpoint.shard_file import hash_file, write_shard

NAME = "model.a.weight"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_checkpoint(tmp_path, made_state(made_config(tmp_path), 2), world_size=3)


def test_the_safetensors_library_reads_what_is_written(tmp_path: Path) -> None:
    tensors = {
        "fp32:0:a": torch.randn(7),
        "empty": torch.zeros(0),
        "ünï:0:c": torch.tensor([-0.0, float("nan"), 1e-45]),
    }
    written = write_shard(tmp_path / "a.safetensors", tensors)
    assert written == hash_file(tmp_path / "a.safetensors")
    assert written.bytes == (tmp_path / "a.safetensors").stat().st_size
    read = load_file(tmp_path / "a.safetensors")
    assert {name: bits(one) for name, one in read.items()} == {
        name: bits(one) for name, one in tensors.items()
    }
    assert write_shard(tmp_path / "b.safetensors", {}).bytes == 16
    assert load_file(tmp_path / "b.safetensors") == {}


def test_large_tensors_are_hashed_as_they_lie_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.checkpoint.shard_file._CHUNK", 1000)
    tensor = torch.arange(1251, dtype=torch.float32)
    written = write_shard(tmp_path / "a.safetensors", {"x": tensor})
    assert written == hash_file(tmp_path / "a.safetensors")
    assert torch.equal(load_file(tmp_path / "a.safetensors")["x"], tensor)


def test_every_stretch_is_read_across_shards(folder: Path) -> None:
    reader = ShardReader(folder, read_marker(folder))
    for name in SHAPES:
        for kind in KINDS:
            values = whole(kind, name, 2)
            for start in range(len(values) + 1):
                for stop in range(start, len(values) + 1):
                    target = torch.full((stop - start,), 7.0)
                    reader.read_into(target, kind, name, start)
                    assert bits(target) == bits(values[start:stop])


def test_what_is_not_there_is_damage(folder: Path) -> None:
    reader = ShardReader(folder, read_marker(folder))
    cases = [("other", 0, 1, 0), (NAME, 0, 13, 12), (NAME, 12, 1, 12), (NAME, 40, 2, 40)]
    for name, start, size, missing in cases:
        with pytest.raises(Damaged, match=rf"fp32 of {name} is missing from element {missing} on"):
            reader.read_into(torch.zeros(size), MASTER, name, start)
    with pytest.raises(Damaged, match=r"grad of model\.a\.weight is missing"):
        reader.read_into(torch.zeros(1), "grad", NAME, 0)


def test_a_gap_is_damage(folder: Path) -> None:
    path = folder / "shard_00001_of_00003.safetensors"
    tensors = load(path.read_bytes())
    tensors.pop(next(key for key in tensors if key.startswith(MASTER) and key.endswith(NAME)))
    write_shard(path, tensors)
    with pytest.raises(Damaged, match=rf"fp32 of {NAME} is missing from element 6 on"):
        read_whole(folder, read_marker(folder))


def header(entries: dict[str, Any], body: bytes = b"") -> bytes:
    text = json.dumps(entries).encode()
    return len(text).to_bytes(8, "little") + text + body


def entry(numel: int, begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": [numel], "data_offsets": [begin, end]}


class Bomb:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("code was run",))


ABSURD = {
    "empty": b"",
    "short": b"\x08\x00\x00",
    "header longer than the file": (1 << 40).to_bytes(8, "little") + b"{}",
    "header of all memory": b"\xff" * 8 + b"{}",
    "no JSON": (4).to_bytes(8, "little") + b"{{{{",
    "deep": header({}).replace(b"{}", b"[" * 100_000),
    "pickle": pickle.dumps(Bomb()),
    "body shorter than said": header({f"fp32:0:{NAME}": entry(12, 0, 48)}, b"\0" * 47),
    "body longer than said": header({f"fp32:0:{NAME}": entry(12, 0, 48)}, b"\0" * 49),
    "a terabyte": header({f"fp32:0:{NAME}": entry(1 << 38, 0, 1 << 40)}, b"\0" * 48),
    "sizes overflow": header({f"fp32:0:{NAME}": entry(1 << 62, 0, 48)}, b"\0" * 48),
    "offsets back to front": header({f"fp32:0:{NAME}": entry(12, 48, 0)}, b"\0" * 48),
    "negative": header({f"fp32:0:{NAME}": entry(-12, 0, 48)}, b"\0" * 48),
    "no name": header({"x": entry(12, 0, 48)}, b"\0" * 48),
    "no start": header({f"fp32:x:{NAME}": entry(12, 0, 48)}, b"\0" * 48),
    "negative start": header({f"fp32:-3:{NAME}": entry(12, 0, 48)}, b"\0" * 48),
    "no such type": header({f"fp32:0:{NAME}": entry(12, 0, 48, "Q32")}, b"\0" * 48),
}


@pytest.mark.parametrize("content", list(ABSURD.values()), ids=list(ABSURD))
def test_what_is_no_shard_is_damage_and_takes_no_memory(folder: Path, content: bytes) -> None:
    name = "shard_00000_of_00003.safetensors"
    (folder / name).write_bytes(content)
    mark_again(folder)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(Damaged) as caught:
        ShardReader(folder, read_marker(folder))
    assert str(caught.value).startswith(f"{name} cannot be read")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000, "KiB"


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.bfloat16, torch.int32, torch.bool, torch.complex64]
)
def test_numbers_of_another_type_are_damage(folder: Path, dtype: torch.dtype) -> None:
    """Converted, they would be other numbers."""
    path = folder / "shard_00000_of_00003.safetensors"
    values = torch.tensor(np.arange(12)).to(dtype)
    save_file({f"{kind}:0:{NAME}": values.clone() for kind in KINDS}, path)
    with pytest.raises(Damaged, match=f"{path.name} cannot be read .* holds"):
        ShardReader(folder, read_marker(folder))


def test_a_shape_of_two_dimensions_is_damage(folder: Path) -> None:
    path = folder / "shard_00000_of_00003.safetensors"
    save_file({f"fp32:0:{NAME}": torch.zeros(3, 4)}, path)
    with pytest.raises(Damaged, match=f"{path.name} cannot be read"):
        ShardReader(folder, read_marker(folder))
