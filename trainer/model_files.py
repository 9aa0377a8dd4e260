"""Files of a model directory, looked at before data is read: whole, and what they say they are.

transformers initialises a weight that no file holds at random and goes on; and what it raises at a file
that is cut short names neither the file nor the way out. Only headers are read here: a large model costs
milliseconds.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from data_modules.faults import Fault

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
_CONFIG = "config.json"
_TOKENIZER = "tokenizer.json"
_ADAPTER = "adapter_config.json"
#: JSON files that transformers reads where they are there.
_DESCRIPTIONS = (
    *(_CONFIG, "generation_config.json", _TOKENIZER, "tokenizer_config.json"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json"),
)
#: Files of which a tokenizer needs one; without any, transformers makes an empty one for some models.
_VOCABULARIES = (
    *(_TOKENIZER, "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json"),
    *("sentencepiece.bpe.model", "spm.model", "tiktoken.model"),
)
_LFS = b"version https://git-lfs"
_AGAIN = "Copy or download the file again."
_PULL = "It is a pointer of git-lfs, not the file itself: run git lfs pull there."
_SHOWN = 5


def weights_faults(key: str, folder: Path) -> Iterator[Fault]:
    """Faults of the weights of a local model directory, by the headers of its files.

    Args:
        key: dotted key that names the directory.
    """
    if (folder / INDEX).is_file():
        yield from _sharded_faults(folder)
    elif (folder / WEIGHTS).is_file():
        yield from _header_faults(folder / WEIGHTS, ())
    elif not (folder / _ADAPTER).is_file() and not any(folder.glob("*.safetensors")):
        others = sorted(path.name for path in folder.glob("*") if path.suffix in (".bin", ".pt"))
        seen = f"{folder} has no {WEIGHTS}" + (f", but {', '.join(others)}" if others else "")
        remedy = (
            "Convert the weights: load and save_pretrained with transformers, where you trust them."
        )
        yield Fault(
            key,
            seen,
            "weights are read as safetensors only: other formats can run code when they are read",
            remedy if others else "Copy the weights there.",
        )


def description_faults(folder: Path) -> Iterator[Fault]:
    """Faults of the JSON files of a local model or tokenizer directory."""
    for name in _DESCRIPTIONS:
        if (folder / name).exists():
            yield from _object_of(folder / name)[1]


def vocabulary_faults(key: str, folder: Path, trusted: bool) -> Iterator[Fault]:
    """A fault where a local directory holds no tokenizer.

    Args:
        key: dotted key that names the directory.
        trusted: its own code may run; that may read any file.
    """
    if not trusted and not any((folder / name).exists() for name in _VOCABULARIES):
        seen = f"{folder} has no {_TOKENIZER} and no other vocabulary"
        rule = "a tokenizer without one knows no token"
        yield Fault(
            key, seen, rule, "Copy the model's tokenizer files there, or set model.tokenizer."
        )


def _sharded_faults(folder: Path) -> Iterator[Fault]:
    index, faults = _object_of(folder / INDEX)
    if faults:
        yield from faults
        return
    shard_of = index.get("weight_map")
    where = str(folder / INDEX)
    if not isinstance(shard_of, dict) or not shard_of:
        rule = "weight_map says which file holds which weight"
        yield Fault(where, "it has no weight_map", rule, _AGAIN)
        return
    weights_of: dict[str, list[str]] = {}
    for weight, shard in shard_of.items():
        weights_of.setdefault(str(shard), []).append(weight)
    for shard, weights in sorted(weights_of.items()):
        if Path(shard).name != shard:
            rule = "shards lie beside the index"
            yield Fault(where, f"weight_map names the file {shard!r}", rule, _AGAIN)
        elif not (folder / shard).is_file():
            seen = f"weight_map names {shard}, which is not there"
            yield Fault(where, seen, f"it holds {len(weights)} of the weights", _AGAIN)
        else:
            yield from _header_faults(folder / shard, weights)


def _header_faults(path: Path, weights: list[str] | tuple[()]) -> Iterator[Fault]:
    """Faults of one file by its header, which says how long the file is.

    Args:
        weights: names that it must hold.
    """
    rule = "weights are safetensors, and whole"
    try:
        with safe_open(path, framework="pt") as file:
            held = set(file.keys())
    except (SafetensorError, OSError) as error:
        size = path.stat().st_size
        remedy = _PULL if _starts_as_pointer(path) else _AGAIN
        yield Fault(
            str(path), f"it is damaged or cut short at {size:,} bytes ({error})", rule, remedy
        )
        return
    if missing := [name for name in weights if name not in held]:
        yield Fault(str(path), f"it lacks {shown(missing)}", f"{INDEX} says it holds them", _AGAIN)


def _object_of(path: Path) -> tuple[Mapping[str, Any], list[Fault]]:
    """A JSON object and no fault, or nothing and why."""
    remedy = _AGAIN
    try:
        raw = path.read_bytes()
        if raw.startswith(_LFS):
            remedy = _PULL
        value = json.loads(raw.decode())
        if isinstance(value, dict):
            return value, []
        place, seen = str(path), f"it holds {type(value).__name__}"
    except OSError as error:
        place, seen = str(path), f"it cannot be read ({error.strerror})"
    except json.JSONDecodeError as error:
        place, seen = f"{path}:{error.lineno}", f"malformed JSON ({error.msg})"
    except (ValueError, RecursionError) as error:
        place, seen = str(path), f"malformed JSON ({error})"
    return {}, [Fault(place, seen, "it is a JSON object", remedy)]


def _starts_as_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LFS)) == _LFS


def shown(names: list[str]) -> str:
    """The first few of many names."""
    first = ", ".join(sorted(names)[:_SHOWN])
    return first if len(names) <= _SHOWN else f"{first} and {len(names) - _SHOWN} more"
