"""The config boundary: an OmegaConf tree in, typed dataclasses out, every fault listed at once.

Hydra alone accepts ``+curriculum.phases.mix.learning_rate=1`` and ignores it. Here every key is
checked against the schema, whichever way it came in. This is the only module outside ``launch/``
that knows OmegaConf.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
import types
import typing
from collections.abc import Iterator
from enum import Enum
from functools import cache
from typing import Any, Union

import yaml
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import (
    InterpolationResolutionError,
    InterpolationToMissingValueError,
    OmegaConfBaseException,
)

from data_modules.faults import ConfigFault, Fault
from data_modules.masking import masked
from trainer.config.path_rules import path_faults
from trainer.config.schema import Config

# What other trainers call our keys, and what a plural or an old habit makes of them.
_ELSEWHERE = {
    "learning_rate": "lr",
    "num_epochs": "epochs",
    "num_train_epochs": "epochs",
    "max_steps": "steps",
    "batch_size": "global_batch_size",
    "train_batch_size": "global_batch_size",
    "gradient_accumulation_steps": "global_batch_size",
    "per_device_train_batch_size": "micro_batch_size",
    "train_micro_batch_size_per_gpu": "micro_batch_size",
    "gradient_clipping": "max_grad_norm",
    "max_length": "max_seq_len",
    "max_seq_length": "max_seq_len",
    "model_name_or_path": "path",
    "lora_rank": "rank",
}
_EXPONENT = re.compile(r"[-+]?[\d_.]+[eE][-+]?\d+")
_UNRESOLVED = object()  # stands for a value whose interpolation failed; its fault is already named


def to_config(composed: DictConfig) -> Config:
    """Merge a composed Hydra configuration onto the schema, strictly.

    Raises:
        ConfigFault: unknown keys, missing values, values of the wrong type.
    """
    faults: list[Fault] = []
    pending: list[Fault] = []
    plain = _plain(composed, "", faults, pending)
    _check(plain, Config, "", faults)
    if faults or pending:
        # An interpolation of a missing value is named only where the missing value itself is not.
        raise ConfigFault(faults or pending)
    # The check above names every fault; the merge still converts (enums, int -> float).
    try:
        merged = OmegaConf.merge(_schema(), plain)
        result = OmegaConf.to_object(merged)
    except OmegaConfBaseException as error:
        rule = "it must fit the configuration's type"
        raise ConfigFault(Fault(error.full_key or "config", _first_line(error), rule)) from error
    assert isinstance(result, Config)
    if faults := list(path_faults(result)):
        raise ConfigFault(faults)
    return result


@cache
def _schema() -> DictConfig:
    """The empty tree that values are merged onto; merging copies it."""
    return OmegaConf.structured(Config)


_hints = cache(typing.get_type_hints)


def to_plain(config: Config) -> dict[str, Any]:
    """The resolved configuration as plain dicts, lists and values, enums by name; secrets masked."""
    plain: dict[str, Any] = masked(_as_plain(config))
    return plain


def _as_plain(value: Any) -> Any:
    """As ``OmegaConf.to_container`` of the structured config, which takes a second for a real one."""
    if dataclasses.is_dataclass(value):
        fields = dataclasses.fields(value)
        return {field.name: _as_plain(getattr(value, field.name)) for field in fields}
    if isinstance(value, dict):
        return {_as_plain(key): _as_plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_as_plain(one) for one in value]
    return value.name if isinstance(value, Enum) else value


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML; secrets masked."""
    # not through OmegaConf, which would take "${" in a text for an interpolation
    return yaml.dump(to_plain(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quotes texts that a reader of YAML 1.2 would take for numbers, or that hold odd characters."""


def _write_text(dumper: _Dumper, text: str) -> yaml.Node:
    odd = not text.replace("\n", "").isprintable()
    style = '"' if odd else ("'" if _EXPONENT.fullmatch(text) else None)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _write_text)


def _plain(node: Any, key: str, faults: list[Fault], pending: list[Fault]) -> Any:
    """Plain values with every interpolation resolved; a fault for each one that does not."""
    if not isinstance(node, DictConfig | ListConfig):
        return node
    is_list = isinstance(node, ListConfig)
    names: list[Any] = list(range(len(node))) if is_list else list(node.keys())
    container: Any = node
    items: dict[Any, Any] = {}
    for name in names:
        where = f"{key}[{name}]" if is_list else f"{key}.{name}".removeprefix(".")
        if OmegaConf.is_missing(container, name):
            items[name] = "???"
            continue
        try:
            items[name] = _plain(container[name], where, faults, pending)
        except InterpolationResolutionError as error:
            items[name] = _UNRESOLVED
            fault = Fault(where, _first_line(error), "interpolations must resolve")
            missing = isinstance(error, InterpolationToMissingValueError)
            (pending if missing else faults).append(fault)
    return list(items.values()) if is_list else items


def _first_line(error: OmegaConfBaseException) -> str:
    return next(iter(str(error.msg or error).strip().splitlines()), type(error).__name__)


def _check(value: Any, kind: Any, key: str, faults: list[Fault]) -> None:
    """Walk ``value`` against the type ``kind``; append a fault per wrong leaf or unknown key."""
    kind, optional = _unwrap(kind)
    if value is _UNRESOLVED:
        return
    if value is None:
        if not optional:
            faults.append(Fault(key, "no value (null)", f"it must be {_words(kind)}"))
        return
    if value == "???":
        faults.append(Fault(key, "no value was given", "it has no default", f"Set {key}=..."))
        return
    if dataclasses.is_dataclass(kind):
        _check_fields(value, kind, key, faults)
    elif typing.get_origin(kind) is dict:
        _check_mapping(value, typing.get_args(kind)[1], key, faults)
    elif typing.get_origin(kind) is list:
        _check_list(value, typing.get_args(kind)[0], key, faults)
    elif kind is not Any and not _fits(value, kind):
        faults.append(Fault(key, repr(value), f"it must be {_words(kind)}"))


def _check_mapping(value: Any, kind: Any, key: str, faults: list[Fault]) -> None:
    if not isinstance(value, dict):
        faults.append(Fault(key, repr(value), "it must be a mapping", f"Write {key}={{name:...}}."))
        return
    for name, item in value.items():
        if not isinstance(name, str):
            faults.append(Fault(f"{key}.{name}", f"the key is {name!r}", "names must be text"))
        _check(item, kind, f"{key}.{name}", faults)


def _check_list(value: Any, kind: Any, key: str, faults: list[Fault]) -> None:
    if not isinstance(value, list):
        faults.append(Fault(key, repr(value), "it must be a list", f"Write {key}=[...]."))
        return
    for index, item in enumerate(value):
        where = f"{key}[{index}]"
        # OmegaConf turns a number into text in a field, but not in a list
        if kind is str and isinstance(item, int | float):
            faults.append(Fault(where, repr(item), "it must be text"))
        else:
            _check(item, kind, where, faults)


def _check_fields(value: Any, kind: Any, key: str, faults: list[Fault]) -> None:
    if not isinstance(value, dict):
        faults.append(Fault(key, repr(value), f"it must be a mapping ({kind.__name__})"))
        return
    hints = _hints(kind)
    prefix = f"{key}." if key else ""
    for name, item in value.items():
        if name in hints:
            _check(item, hints[name], f"{prefix}{name}", faults)
        else:
            known = f"known here: {', '.join(hints)}"
            faults.append(
                Fault(f"{prefix}{name}", "unknown key", known, _hint(prefix, name, hints))
            )
    for item_field in dataclasses.fields(kind):
        if item_field.name in value:
            continue
        where = f"{prefix}{item_field.name}"
        if item_field.default == "???":
            faults.append(
                Fault(where, "no value was given", "it has no default", f"Set {where}=...")
            )
        elif dataclasses.is_dataclass(item_field.default_factory):
            _check_fields({}, item_field.default_factory, where, faults)


def _hint(prefix: str, name: Any, hints: dict[str, Any]) -> str:
    """The key that ``name`` was probably meant to be: here, or anywhere in the tree."""
    wanted = _ELSEWHERE.get(str(name), str(name))
    close = [wanted] if wanted in hints else difflib.get_close_matches(wanted, hints, n=1)
    places = [f"{prefix}{one}" for one in close] or sorted(_places(wanted, Config, ""))
    return f"Did you mean {' or '.join(places)}?" if places else ""


def _places(name: str, kind: Any, key: str) -> Iterator[str]:
    """Every key of the schema that ends in ``name``."""
    for field_name, hint in _hints(kind).items():
        inner, _ = _unwrap(hint)
        where = f"{key}.{field_name}" if key else field_name
        if field_name == name:
            yield where
        if typing.get_origin(inner) is dict:
            inner, where = typing.get_args(inner)[1], f"{where}.<name>"
        if dataclasses.is_dataclass(inner):
            yield from _places(name, inner, where)


def _unwrap(kind: Any) -> tuple[Any, bool]:
    """``X | None`` -> (X, True)."""
    if typing.get_origin(kind) in (Union, types.UnionType):
        inner = [arg for arg in typing.get_args(kind) if arg is not type(None)]
        assert len(inner) == 1, "the schema uses X | None only"
        return inner[0], True
    return kind, kind is Any


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return str(value) in kind.__members__
    if kind is bool:
        return isinstance(value, bool)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return number and isinstance(value, int) and -(2**63) <= value < 2**63
    if kind is float:
        # compared, not converted: Python's integers may be larger than any float
        return number and -sys.float_info.max <= value <= sys.float_info.max
    assert kind is str, kind
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _words(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(kind.__members__)}"
    names = {
        int: "an integer of 64 bits",
        float: "a finite number",
        bool: "true or false",
        str: "text",
    }
    return names.get(kind) or str(getattr(kind, "__name__", kind))
