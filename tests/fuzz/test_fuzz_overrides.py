"""Fuzz: whatever is set on the command line, the run gets it or says why not.

An override ends in a typed configuration that shows it, or in a fault that names a place; nothing is
taken in silence, and nothing else is raised.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from enum import Enum
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data_modules.faults import ConfigFault
from launch.composing import addable, refuse
from tests.fuzz.strategies import NASTY, SCALARS, TEXTS, values
from tests.shared_data import REPOSITORY
from tests.shared_folder import GOOD, Folder, word_tokenizer
from trainer.config.schema import Config
from trainer.config.strict_merge import to_config
from trainer.config.validate import validate

Key = tuple[str, ...]


def schema_keys(kind: Any = Config, key: Key = ()) -> Iterator[tuple[Key, Any]]:
    """Every key that the schema has, and its type; names of tasks, sources and phases are made up."""
    for name, hint in typing.get_type_hints(kind).items():
        inner = next((one for one in typing.get_args(hint) if dataclasses.is_dataclass(one)), hint)
        where = (*key, name)
        yield where, hint
        if typing.get_origin(hint) is dict:
            inner, where = typing.get_args(hint)[1], (*where, "qa" if name == "tasks" else "mix")
            yield where, inner
        if dataclasses.is_dataclass(inner):
            yield from schema_keys(inner, where)


ALL_KEYS = dict(schema_keys())
#: Written by the run's own machinery from other keys, or made (benchmark) before anything is checked.
KNOWN = st.sampled_from(sorted(ALL_KEYS))
PARTS = st.sampled_from(sorted({part for key in ALL_KEYS for part in key}))
MADE_UP = st.lists(PARTS | TEXTS.filter(bool), min_size=1, max_size=4).map(tuple)
NESTED = st.builds(lambda key, rest: (*key, *rest), KNOWN, MADE_UP)
FITTING: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-2, 300),
    float: st.floats(0, 1) | st.integers(0, 3),
    bool: st.booleans(),
    str: st.sampled_from(["a", "train/qa.jsonl", "general", "qa", "[x]", "sm_x"]),
}


def fitting(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a key's own type: else hardly any override would be taken."""
    options = [one for one in typing.get_args(kind) if one is not type(None)]
    if typing.get_origin(kind) is list:
        return st.lists(fitting(options[0]), max_size=3)
    if typing.get_origin(kind) is dict:
        return st.dictionaries(st.sampled_from(["qa", "mix", "x"]), fitting(options[1]), max_size=2)
    if options:
        return st.none() | fitting(options[0])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return st.sampled_from(sorted(kind.__members__))
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        some = st.sampled_from(sorted(hints))
        return some.flatmap(lambda name: st.fixed_dictionaries({name: fitting(hints[name])}))
    return FITTING.get(kind, SCALARS)


ANY_VALUE = values(PARTS)
OVERRIDES = (
    KNOWN.flatmap(lambda key: st.tuples(st.just(key), fitting(ALL_KEYS[key]) | ANY_VALUE))
    | st.tuples(KNOWN, ANY_VALUE)
    | st.tuples(NESTED | MADE_UP, ANY_VALUE)
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> DictConfig:
    """The real tree over a folder of two tasks, with one phase of three: quick to merge."""
    folder = Folder(tmp_path_factory.mktemp("overrides"))
    word_tokenizer().save_pretrained(folder.root / "tokenizer")
    for task in ("qa", "chat"):
        folder.write(task, GOOD)
    arguments = [
        one for one in folder.arguments if "specialize" not in one and "phases.hard" not in one
    ]
    arguments += ["~curriculum.phases.specialize", "~curriculum.phases.hard", "data.discover=false"]
    for task in ("qa", "chat"):
        arguments.append(f"data.tasks.{task}.sources.main.train=train/{task}.jsonl")
    arguments.append("data.groups.hard=[qa]")
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        tree = compose("train", overrides=addable(arguments))
    OmegaConf.set_struct(tree, False)
    validate(to_config(tree), dp_world_size=1)
    return tree


def put(tree: DictConfig, key: Key, value: Any) -> bool:
    """Set a value as ``++key=value`` does; False where no YAML file could say it."""
    node: Any = tree
    for part in key[:-1]:
        inner = node._get_node(part) if isinstance(node, DictConfig) else None
        if not isinstance(inner, DictConfig) or inner._is_none() or inner._is_missing():
            inner = OmegaConf.create({})
            node[part] = inner
            inner = node._get_node(part)
        node = inner
    before = node._get_node(key[-1])
    if isinstance(value, dict) and isinstance(before, DictConfig):
        if before._is_none() or before._is_missing():
            node[key[-1]] = value
        else:
            before.merge_with(value)
    else:
        node[key[-1]] = value
    return True


def holds(found: Any, value: Any) -> bool:
    """Whether a resolved configuration shows a value that was set."""
    if isinstance(value, str) and ("${" in value or "\\" in value):
        return True  # an interpolation: it shows what it resolves to
    if isinstance(value, dict):
        return isinstance(found, dict) and all(
            str(name) in {str(one) for one in found}
            and holds(next(found[one] for one in found if str(one) == str(name)), item)
            for name, item in value.items()
        )
    if isinstance(value, list):
        return (
            isinstance(found, list) and len(found) == len(value) and all(map(holds, found, value))
        )
    if isinstance(value, float) and isinstance(found, float) and math.isnan(value):
        return math.isnan(found)
    if isinstance(found, str) and not isinstance(value, str):
        return found == str(value)
    return found == value and isinstance(found, bool) == isinstance(value, bool)


def shown(config: Config, key: Key) -> Any:
    """The plain value of one key."""
    place: Any = config
    for part in key:
        place = getattr(place, part) if dataclasses.is_dataclass(place) else _item(place, part)
    return _plain(place)


def _item(mapping: dict[Any, Any], name: str) -> Any:
    return next(item for key, item in mapping.items() if str(key) == name)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {one.name: _plain(getattr(value, one.name)) for one in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.name if isinstance(value, Enum) else value


def check_fault(fault: ConfigFault) -> None:
    for one in fault.faults:
        assert one.where
        assert one.rule
        assert isinstance(one.seen, str)
    str(fault).encode("utf-8", "backslashreplace")


@settings(max_examples=600)
@given(override=OVERRIDES)
@example(override=(("optimizer", "eps"), 10**400))
@example(override=(("cluster", "process_group_timeout_s"), 10**400))
@example(override=(("output_dir",), "a\0b"))
@example(override=(("data", "cache_dir"), "a\0b"))
@example(override=(("curriculum", "phases", "mix", "lr"), float("nan")))
@example(override=(("zero", "extra"), {"a": 10**400}))
@example(override=(("data", "root"), "x" * 5000))
@example(override=(("model", "path"), 10**400))
def test_any_value_is_shown_or_refused(base: DictConfig, override: tuple[Key, Any]) -> None:
    key, value = override
    tree = base.copy()
    try:
        put(tree, key, value)
    except OmegaConfBaseException:
        return  # Hydra says so
    fault: ConfigFault | None = None
    try:
        config = to_config(tree)
    except ConfigFault as error:
        fault = error
    if fault is not None:
        check_fault(fault)
        return
    assert holds(shown(config, key), value)
    try:
        validate(config, dp_world_size=1)
    except ConfigFault as error:
        fault = error
    if fault is not None:
        check_fault(fault)


# --- the same through Hydra's own parser

_WORDS = st.sampled_from(
    [
        *(
            "seed",
            "data.root",
            "+phase",
            "data",
            "model",
            "hydra.run.dir",
            "curriculum.phases.mix.lr",
        ),
        *(
            "~model",
            "zero",
            "+x",
            "++y.z",
            "data.tasks.qa",
            "phase@curriculum.phases.mix",
            "data.tasks",
        ),
    ]
)
_SAID = st.sampled_from(
    [
        *("1", "null", "[1,2", "{a:1}", "[a,b]", "{a:{b:[1]}}", "tiny", "zero3", "1,2", "range(3)"),
        *(
            "${seed}",
            "${nope}",
            "${oc.env:HOME}",
            "'a b'",
            '"x',
            "???",
            "a=b",
            "glob(*)",
            "int(3.5)",
        ),
        *("", " ", "1e400", "nan", "-", "--help", "\\", "$", "${", "sort(3,1)", "ten_tasks", "mix"),
    ]
)
_SPOKEN = st.builds("{}={}".format, _WORDS | KNOWN.map(".".join), _SAID | TEXTS) | st.sampled_from(
    NASTY
)


@settings(max_examples=100)
@given(overrides=st.lists(_SPOKEN, min_size=1, max_size=2))
def test_any_command_line_composes_or_is_refused(overrides: list[str]) -> None:
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        try:
            tree = compose("train", overrides=addable(["data=folder", "model=tiny", *overrides]))
        except Exception as error:  # any: all are told as a fault of the command line
            with pytest.raises(ConfigFault) as caught:
                refuse(error)
            check_fault(caught.value)
            return
    fault: ConfigFault | None = None
    try:
        to_config(tree)
    except ConfigFault as error:
        fault = error
    if fault is not None:
        check_fault(fault)
