"""The config boundary: nothing unknown, missing or ill-typed passes, and every fault is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from data_modules.config import Overlong
from data_modules.faults import ConfigFault, Fault
from trainer.config.schema import Config, Precision, Shape
from trainer.config.strict_merge import to_config, to_plain, to_yaml

CONF = Path(__file__).resolve().parents[3] / "conf"

BASE: dict[str, Any] = {
    "run_name": "test",
    "output_dir": "outputs/${run_name}",
    "data": {
        "name": "two",
        "root": "here",
        "tasks": {"qa": {"sources": {"main": {"train": "qa.jsonl"}}}},
        "groups": {"hard": ["qa"]},
    },
    "model": {"name": "m", "path": "models/m"},
    "curriculum": {"phases": {"mix": {"epochs": 1, "lr": 1e-3}}},
}


def tree(changes: dict[str, Any] | None = None) -> DictConfig:
    """BASE with dotted keys set."""
    built = OmegaConf.create(BASE)
    for key, value in (changes or {}).items():
        OmegaConf.update(built, key, value, force_add=True)
    return built


def faults_of(changes: dict[str, Any]) -> list[Fault]:
    with pytest.raises(ConfigFault) as caught:
        to_config(tree(changes))
    return caught.value.faults


def test_a_whole_configuration_becomes_the_typed_tree() -> None:
    config = to_config(
        tree(
            {
                "precision": "fp32",
                "curriculum.phases.mix.lr": 1,  # an integer is a number too
                "curriculum.phases.mix.schedule.shape": "wsd",
                "data.overlong": "truncate",
                "curriculum.select": {"mix": {"whatever": [1]}},
            }
        )
    )
    assert isinstance(config, Config)
    assert config.output_dir == "outputs/test"
    assert config.precision is Precision.fp32
    assert config.data.overlong is Overlong.truncate
    phase = config.curriculum.phases["mix"]
    assert (phase.lr, type(phase.lr), phase.schedule.shape) == (1.0, float, Shape.wsd)
    assert list(config.curriculum.select) == ["mix"]


def test_yaml_and_plain_values_make_the_same_configuration_again() -> None:
    config = to_config(tree({"precision": "fp32", "optimizer.beta2": 0.9}))
    assert to_config(OmegaConf.create(to_yaml(config))) == config
    assert to_config(OmegaConf.create(to_plain(config))) == config
    assert yaml.safe_load(to_yaml(config))["precision"] == "fp32"


@pytest.mark.parametrize("plus", ["+", "++"])
def test_a_forced_key_is_refused_too(plus: str) -> None:
    """Hydra itself lets these through, and nothing would ever read them."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose(
            "train",
            overrides=[
                f"{plus}curriculum.phases.mix.learning_rate=1",
                f"{plus}optimiser.beta2=0.9",
            ],
        )
    with pytest.raises(ConfigFault) as caught:
        to_config(composed)
    assert {fault.where: fault.remedy for fault in caught.value.faults} == {
        "curriculum.phases.mix.learning_rate": "Did you mean curriculum.phases.mix.lr?",
        "optimiser": "Did you mean optimizer?",
    }


@pytest.mark.parametrize(
    ("key", "remedy"),
    [
        ("seeed", "Did you mean seed?"),
        ("curriculum.phases.mix.epoch", "Did you mean curriculum.phases.mix.epochs?"),
        ("curriculum.phases.mix.schedule.warmup_ration", "...mix.schedule.warmup_ratio?"),
        ("data.tasks.qa.constrain", "Did you mean data.tasks.qa.constraint?"),
        ("data.tasks.qa.source", "Did you mean data.tasks.qa.sources?"),
        ("data.tasks.qa.sources.main.training", "Did you mean data.tasks.qa.sources.main.train?"),
        ("data.benchmark.multiplyer", "Did you mean data.benchmark.multiplier?"),
        # known, but at home elsewhere in the tree
        ("lr", "Did you mean curriculum.phases.<name>.lr?"),
        ("weight_decay", "Did you mean optimizer.weight_decay?"),
        ("model.max_seq_len", "Did you mean data.max_seq_len?"),
        ("gradient_accumulation_steps", "Did you mean global_batch_size?"),
        ("zzz", ""),
    ],
)
def test_an_unknown_key_is_named_with_what_was_probably_meant(key: str, remedy: str) -> None:
    (fault,) = faults_of({key: 1})
    assert (fault.where, fault.seen) == (key, "unknown key")
    assert fault.rule.startswith("known here: ")
    assert fault.remedy.endswith(remedy.removeprefix("..."))
    assert bool(fault.remedy) == bool(remedy)


@pytest.mark.parametrize(
    ("key", "value", "seen", "rule"),
    [
        ("seed", "x", "'x'", "it must be an integer of 64 bits"),
        ("seed", 1.0, "1.0", "it must be an integer of 64 bits"),
        ("seed", True, "True", "it must be an integer of 64 bits"),
        ("seed", None, "no value (null)", "it must be an integer of 64 bits"),
        ("deterministic", 1, "1", "it must be true or false"),
        ("deterministic", "yes", "'yes'", "it must be true or false"),
        ("optimizer.beta1", "0,9", "'0,9'", "it must be a finite number"),
        ("optimizer.beta1", True, "True", "it must be a finite number"),
        ("optimizer.beta1", float("nan"), "nan", "it must be a finite number"),
        ("curriculum.phases.mix.lr", float("inf"), "inf", "it must be a finite number"),
        # found by fuzzing: larger than any float, and than any array's index
        ("optimizer.eps", 10**400, repr(10**400), "it must be a finite number"),
        (
            "data.root",
            "x" * 300,
            "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx': a name in it has 300 bytes, more than 255",
            "it names a file or folder",
        ),
        (
            "output_dir",
            "a/" * 3000,
            "'a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/': it has 6000 bytes, more than 4000",
            "it names a file or folder",
        ),
        ("model.path", "a\0b", "'a\\x00b': it holds a NUL", "it names a file or folder"),
        (
            "init_from",
            "\ud800",
            "'\\ud800': it holds half a surrogate pair",
            "it names a file or folder",
        ),
        (
            "data.tasks.qa.sources.main.eval",
            "a\0",
            "'a\\x00': it holds a NUL",
            "it names a file or folder",
        ),
        ("seed", 2**63, repr(2**63), "it must be an integer of 64 bits"),
        ("run_name", True, "True", "it must be text"),
        ("run_name", [1], "[1]", "it must be text"),
        ("precision", "fp16", "'fp16'", "it must be one of bf16, fp32"),
        (
            "curriculum.phases.mix.order",
            "random",
            "'random'",
            "one of mixed, grouped, sequential, easy_to_hard",
        ),
        ("data.overlong", True, "True", "it must be one of drop, truncate"),
        (
            "curriculum.phases.mix.balance.strategy",
            "Caps",
            "'Caps'",
            "one of natural, caps, weights, temperature, unimax, axes",
        ),
        ("curriculum.phases.mix.tasks", "qa", "'qa'", "it must be a list"),
        ("curriculum.phases.mix.loss_weights.qa", "a", "'a'", "it must be a finite number"),
        ("curriculum.phases.mix", 3, "3", "it must be a mapping (PhaseConfig)"),
        ("curriculum.phases.mix.loss_weights", ["qa"], "['qa']", "it must be a mapping"),
        ("curriculum.select", ["mix"], "['mix']", "it must be a mapping"),
        ("optimizer", None, "no value (null)", "it must be OptimizerConfig"),
        ("data.tasks", "qa", "'qa'", "it must be a mapping"),
    ],
)
def test_a_value_of_the_wrong_type(key: str, value: Any, seen: str, rule: str) -> None:
    (fault,) = faults_of({key: value})
    assert (fault.where, fault.seen) == (key, seen)
    assert fault.rule.endswith(rule)


def test_faults_inside_lists_and_names_that_are_no_text() -> None:
    (fault,) = faults_of({"data.groups.hard": ["qa", 1]})
    assert (fault.where, fault.seen) == ("data.groups.hard[1]", "1")
    faults = faults_of({"data.tasks": {1: {"sources": {"main": {"train": "x"}}}}})
    assert [(one.where, one.rule) for one in faults] == [("data.tasks.1", "names must be text")]


def test_optional_values_may_be_null() -> None:
    config = to_config(tree({"data.rows_per_task": None, "init_from": None}))
    assert config.data.rows_per_task is None


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *((key, "absent") for key in ("run_name", "data.root", "model.name")),
        *((key, "???") for key in ("run_name", "data.root", "model.name")),
        ("data.tasks.qa.sources.main.train", "???"),
        ("data.tasks.qa.sources.main", "???"),
    ],
)
def test_a_missing_value_is_named(key: str, value: str) -> None:
    built = tree({"output_dir": "o"})
    if value == "absent":
        parent, _, name = key.rpartition(".")
        del (OmegaConf.select(built, parent) if parent else built)[name]
    else:
        OmegaConf.update(built, key, "???")
    with pytest.raises(ConfigFault) as caught:
        to_config(built)
    (fault,) = caught.value.faults
    assert (fault.where, fault.seen) == (key, "no value was given")
    assert fault.remedy == f"Set {key}=..."


def test_a_group_that_is_gone_misses_its_values() -> None:
    built = tree()
    del built["data"]
    with pytest.raises(ConfigFault) as caught:
        to_config(built)
    assert [fault.where for fault in caught.value.faults] == ["data.name", "data.root"]


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        ("${nosuch}", "Interpolation key 'nosuch' not found"),
        ("${oc.env:POLYPHASE_NO_SUCH_VARIABLE}", "POLYPHASE_NO_SUCH_VARIABLE"),
        ("${nosuch:1}", "Unsupported interpolation type nosuch"),
    ],
)
def test_an_interpolation_that_does_not_resolve(value: str, seen: str) -> None:
    (fault,) = faults_of({"data.root": value})
    assert (fault.where, fault.rule) == ("data.root", "interpolations must resolve")
    assert seen in fault.seen
    assert "\n" not in str(fault)


def test_a_missing_value_hides_those_that_refer_to_it() -> None:
    (fault,) = faults_of({"data.root": "???", "model.tokenizer": "${data.root}/tokenizer"})
    assert fault.where == "data.root"


def test_all_faults_are_listed_at_once() -> None:
    faults = faults_of(
        {
            "seed": "x",
            "data.root": "${nosuch}",
            "data.nosuch": 1,
            "model.name": "???",
            "curriculum.phases.mix.order": "no",
        }
    )
    assert {fault.where for fault in faults} == {
        *("seed", "data.root", "data.nosuch", "model.name", "curriculum.phases.mix.order")
    }
    with pytest.raises(ConfigFault, match=r"^5 faults:\n  - ") as caught:
        raise ConfigFault(faults)
    assert len(str(caught.value).splitlines()) == 6


@pytest.mark.parametrize(
    "text",
    [
        "${",
        "${seed}",
        "$",
        "a: b",
        "- x",
        "#",
        "1e3",
        "1",
        "null",
        "yes",
        "\x85",
        "é",
        "\u2028",
        "a\nb",
    ],
)
def test_any_text_is_written_as_yaml_and_read_again(text: str) -> None:
    """A text that only looks like an interpolation: one that was escaped, from a data file or a test."""
    config = to_config(tree())
    config.data.tasks["qa"].tag = text
    assert yaml.safe_load(to_yaml(config))["data"]["tasks"]["qa"]["tag"] == text
    assert to_plain(config)["data"]["tasks"]["qa"]["tag"] == text
