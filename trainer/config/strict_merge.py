"""The config boundary: an OmegaConf tree in, typed dataclasses out, every fault listed at once.

Hydra alone accepts ``+curriculum.phases.mix.learning_rate=1`` and ignores it. Here every key is
checked against the schema, whichever way it came in. This is the only module outside ``launch/``
that knows OmegaConf.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from enum import Enum
from typing import Any, Union

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationResolutionError

from data_modules.faults import ConfigFault, Fault
from trainer.config.schema import Config


def to_config(composed: DictConfig) -> Config:
    """Merge a composed Hydra configuration onto the schema, strictly.

    Raises:
        ConfigFault: unknown keys, missing values, values of the wrong type.
    """
    try:
        plain = OmegaConf.to_container(composed, resolve=True)
    except InterpolationResolutionError as error:
        raise ConfigFault(
            Fault(error.full_key or "config", error.msg or str(error), "interpolations must resolve")
        ) from error
    assert isinstance(plain, dict)
    faults: list[Fault] = []
    _check(plain, Config, "", faults)
    if faults:
        raise ConfigFault(faults)
    # The check above names every fault; the merge still converts (enums, int -> float).
    merged = OmegaConf.merge(OmegaConf.structured(Config), plain)
    result = OmegaConf.to_object(merged)
    assert isinstance(result, Config)
    return result


def to_yaml(config: Config) -> str:
    """The resolved configuration as YAML."""
    return OmegaConf.to_yaml(OmegaConf.structured(config))


def _check(value: Any, kind: Any, key: str, faults: list[Fault]) -> None:
    """Walk ``value`` against the type ``kind``; append a fault per wrong leaf or unknown key."""
    kind, optional = _unwrap(kind)
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
        if not isinstance(value, dict):
            faults.append(Fault(key, repr(value), "it must be a mapping"))
            return
        for name, item in value.items():
            _check(item, typing.get_args(kind)[1], f"{key}.{name}", faults)
    elif typing.get_origin(kind) is list:
        if not isinstance(value, list):
            faults.append(Fault(key, repr(value), "it must be a list", f"Write {key}=[...]"))
            return
        for index, item in enumerate(value):
            _check(item, typing.get_args(kind)[0], f"{key}[{index}]", faults)
    elif kind is not Any and not _fits(value, kind):
        faults.append(Fault(key, repr(value), f"it must be {_words(kind)}"))


def _check_fields(value: Any, kind: Any, key: str, faults: list[Fault]) -> None:
    if not isinstance(value, dict):
        faults.append(Fault(key, repr(value), f"it must be a mapping ({kind.__name__})"))
        return
    hints = typing.get_type_hints(kind)
    prefix = f"{key}." if key else ""
    for name, item in value.items():
        if name in hints:
            _check(item, hints[name], f"{prefix}{name}", faults)
        else:
            close = difflib.get_close_matches(str(name), hints, n=1)
            hint = f"Did you mean {prefix}{close[0]}?" if close else ""
            known = f"known here: {', '.join(hints)}"
            faults.append(Fault(f"{prefix}{name}", "unknown key", known, hint))
    for item_field in dataclasses.fields(kind):
        if item_field.default == "???" and item_field.name not in value:
            where = f"{prefix}{item_field.name}"
            faults.append(Fault(where, "no value was given", "it has no default", f"Set {where}=..."))


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
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    assert kind is str, kind
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _words(kind: Any) -> str:
    if isinstance(kind, type) and issubclass(kind, Enum):
        return f"one of {', '.join(kind.__members__)}"
    names = {int: "an integer", float: "a number", bool: "true or false", str: "text"}
    return names.get(kind) or getattr(kind, "__name__", str(kind))


