"""Damaged model directories: named before data is read, and no weight is made up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from data_modules.faults import ConfigFault, Fault
from tests.shared_folder import Folder, refused, word_tokenizer
from trainer.config.schema import Init, ModelConfig
from trainer.model import checked_tokenizer, load_model, load_tokenizer
from trainer.model_files import INDEX, WEIGHTS

LAYERS = 2
SHARD = "model-00002-of-00004.safetensors"
ARCHITECTURE = {
    **{"model_type": "qwen2", "vocab_size": 43, "hidden_size": 32, "intermediate_size": 64},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": LAYERS},
}


def save_model(folder: Path, shard_size: str = "1GB", tied: bool = False) -> Path:
    fields = dict(ARCHITECTURE)
    config = AutoConfig.for_model(fields.pop("model_type"), tie_word_embeddings=tied, **fields)
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder, max_shard_size=shard_size)
    word_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_model(tmp_path / "model")


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    folder = save_model(tmp_path / "sharded", "30KB")
    assert (folder / SHARD).is_file(), sorted(folder.iterdir())
    return folder


def load(folder: Path) -> Any:
    config = ModelConfig(name="m", path=str(folder))
    return load_model(config, checked_tokenizer(config, None), None, seed=0)


def faults_of(folder: Path, make: Callable[[Path], Any] = load) -> list[Fault]:
    with pytest.raises(ConfigFault) as caught:
        make(folder)
    for fault in caught.value.faults:
        assert fault.where, fault
        assert fault.seen, fault
        assert fault.rule, fault
        assert fault.remedy, fault
        assert "\n" not in str(fault)
    return caught.value.faults


def change_json(path: Path, change: Callable[[Any], object]) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shard_size", ["1GB", "30KB"])
def test_whole_model_is_loaded_as_it_was_saved(tmp_path: Path, tied: bool, shard_size: str) -> None:
    folder = save_model(tmp_path / "model", shard_size, tied)
    plain = AutoModelForCausalLM.from_pretrained(folder).state_dict()
    ours = load(folder).state_dict()
    assert ours.keys() == plain.keys()
    assert all(torch.equal(ours[name], plain[name]) for name in plain)


def cut(path: Path, keep: float) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * keep)])


def lfs(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n")


def overwrite_header(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[:8] + b"x" * 20 + raw[28:])


DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    # damage of a weights file, what is seen, part of the remedy
    "half of it": (lambda path: cut(path, 0.5), "damaged or cut short at", "Copy or download"),
    "ten bytes missing": (
        lambda path: path.write_bytes(path.read_bytes()[:-10]),
        "damaged or cut short at",
        "Copy or download",
    ),
    "empty": (lambda path: path.write_bytes(b""), "cut short at 0 bytes", "Copy"),
    "other bytes": (overwrite_header, "invalid JSON in header", "Copy or download"),
    "a pointer": (lfs, "damaged or cut short", "git lfs pull"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_weights_file(model: Path, kind: str) -> None:
    damage, seen, remedy = DAMAGE[kind]
    damage(model / WEIGHTS)
    (fault,) = faults_of(model)
    assert fault.where == str(model / WEIGHTS)
    assert seen in fault.seen
    assert remedy in fault.remedy


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_shard(sharded: Path, kind: str) -> None:
    damage, seen, remedy = DAMAGE[kind]
    damage(sharded / SHARD)
    (fault,) = faults_of(sharded)
    assert fault.where == str(sharded / SHARD)
    assert seen in fault.seen
    assert remedy in fault.remedy


def test_index_and_shards_that_disagree(sharded: Path) -> None:
    (sharded / SHARD).rename(sharded / "elsewhere")
    (fault,) = faults_of(sharded)
    assert fault.where == str(sharded / INDEX)
    assert fault.seen == f"weight_map names {SHARD}, which is not there"
    weights = load_file(sharded / "elsewhere")
    lost = next(iter(weights))
    del weights[lost]
    save_file(weights, sharded / SHARD, metadata={"format": "pt"})
    (fault,) = faults_of(sharded)
    assert fault.where == str(sharded / SHARD)
    assert fault.seen == f"it lacks {lost}"


@pytest.mark.parametrize("text", ['{"weight_map": {', "{}", "[]", '{"weight_map": []}', ""])
def test_broken_index(sharded: Path, text: str) -> None:
    (sharded / INDEX).write_text(text)
    (fault,) = faults_of(sharded)
    assert fault.where.startswith(str(sharded / INDEX))


def test_index_that_leads_out_of_the_directory(sharded: Path, tmp_path: Path) -> None:
    (sharded / SHARD).rename(tmp_path / "outside.safetensors")

    def move(index: Any) -> None:
        for weight, shard in index["weight_map"].items():
            if shard == SHARD:
                index["weight_map"][weight] = "../outside.safetensors"

    change_json(sharded / INDEX, move)
    (fault,) = faults_of(sharded)
    assert fault.seen == "weight_map names the file '../outside.safetensors'"


def test_weights_of_another_format_are_not_read(model: Path) -> None:
    (model / WEIGHTS).unlink()
    torch.save({"a": torch.zeros(1)}, model / "pytorch_model.bin")
    (fault,) = faults_of(model)
    assert fault.where == "model.path"
    assert f"has no {WEIGHTS}, but pytorch_model.bin" in fault.seen
    assert "safetensors only" in fault.rule


BROKEN = {"cut": '{"model_type": "qwen2", "a', "empty": "", "a list": "[]", "null": "null"}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_broken_description(model: Path, name: str, text: str) -> None:
    (model / name).write_text(text)
    (fault,) = faults_of(model)
    assert fault.where.startswith(str(model / name))
    assert fault.rule == "it is a JSON object"


def test_faults_of_all_files_are_listed_at_once(sharded: Path) -> None:
    cut(sharded / SHARD, 0.5)
    (sharded / "tokenizer.json").write_bytes(b"\xff{}")
    (sharded / "config.json").write_text("{")
    names = [fault.where.removeprefix(f"{sharded}/") for fault in faults_of(sharded)]
    assert names == ["config.json:1", "tokenizer.json", SHARD]


def test_directory_without_a_vocabulary(model: Path) -> None:
    """For qwen2, transformers makes an empty tokenizer and goes on."""
    (model / "tokenizer.json").unlink()
    (fault,) = faults_of(model)
    assert fault.where == "model.path"
    assert "has no tokenizer.json" in fault.seen


@pytest.mark.parametrize(
    "text", ['{"version": "1.0"}', '{"model": {"type": "Nonsense"}, "added_tokens": []}']
)
def test_tokenizer_that_is_an_object_but_no_tokenizer(model: Path, text: str) -> None:
    (model / "tokenizer.json").write_text(text)
    (fault,) = faults_of(model, lambda path: load_tokenizer(ModelConfig(path=str(path)), None))
    assert fault.where == "model.path"
    assert "load with transformers" in fault.rule


@pytest.mark.parametrize(
    ("field", "value"),
    [("hidden_size", "x"), ("model_type", "nonsense"), ("vocab_size", -1), ("layer_types", [])],
)
def test_description_of_a_model_that_cannot_be(model: Path, field: str, value: Any) -> None:
    change_json(model / "config.json", lambda config: config.update({field: value}))
    (fault,) = faults_of(model)
    assert fault.where in ("model.path", "model.tokenizer")


def test_missing_weights_are_not_made_up(model: Path) -> None:
    change_weights(model, lambda weights: weights.pop("lm_head.weight"))
    (fault,) = faults_of(model)
    assert fault.where == "model.path"
    assert fault.seen == f"{model}: no file holds lm_head.weight"
    assert fault.rule == "1 weights would be random"


def test_missing_layer_is_not_made_up(model: Path) -> None:
    def drop(weights: dict[str, torch.Tensor]) -> None:
        for name in [name for name in weights if ".layers.1." in name]:
            del weights[name]

    change_weights(model, drop)
    (fault,) = faults_of(model)
    assert "model.layers.1.input_layernorm.weight" in fault.seen
    assert "and 7 more" in fault.seen
    assert fault.rule == "12 weights would be random"


def test_index_that_forgets_a_weight(sharded: Path) -> None:
    change_json(sharded / INDEX, lambda index: index["weight_map"].pop("lm_head.weight"))
    shards = json.loads((sharded / INDEX).read_text())["weight_map"].values()
    (fault,) = faults_of(sharded)
    assert fault.seen == f"{sharded}: no file holds lm_head.weight", set(shards)


def test_weights_of_another_shape(model: Path) -> None:
    change_json(model / "config.json", lambda config: config.update(hidden_size=48))
    faults = faults_of(model)
    assert len(faults) == 5
    assert {fault.rule for fault in faults} == {"27 weights do not fit"}
    assert faults[0].seen == (
        f"{model}: lm_head.weight is [43, 32] in the file and [43, 48] in the model"
    )


def test_weights_that_are_no_numbers(model: Path) -> None:
    change_weights(model, lambda weights: weights["model.norm.weight"].fill_(float("nan")))
    (fault,) = faults_of(model)
    assert fault.seen == f"{model}: model.norm.weight hold NaN or infinity"


@pytest.mark.parametrize(
    ("field", "value"),
    [("hidden_size", "x"), ("hidden_size", -4), ("num_attention_heads", 0), ("model_type", "")],
)
def test_architecture_that_cannot_be(field: str, value: Any) -> None:
    tokenizer = word_tokenizer()
    config = ModelConfig(init=Init.random, architecture=ARCHITECTURE | {field: value})
    with pytest.raises(ConfigFault) as caught:
        load_model(config, tokenizer, None, seed=0)
    (fault,) = caught.value.faults
    assert fault.where == "model.architecture"


def test_init_from_is_named_by_its_own_key(model: Path) -> None:
    change_weights(model, lambda weights: weights.pop("model.norm.weight"))
    config = ModelConfig(init=Init.random, tokenizer=str(model), architecture=ARCHITECTURE)
    with pytest.raises(ConfigFault) as caught:
        load_model(config, word_tokenizer(), str(model), seed=0)
    assert [fault.where for fault in caught.value.faults] == ["init_from"]


def test_commands_refuse_before_data_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], model: Path
) -> None:
    folder = Folder(tmp_path)
    for task in ("qa", "code", "chat"):
        folder.write(task, ['{"never": "read'])
    cut(model / WEIGHTS, 0.5)
    capsys.readouterr()
    folder.overrides = ["model=hf", f"model.path={model}", "model.tokenizer=null"]
    (line,) = refused(folder, capsys)
    assert line.startswith(f"{model / WEIGHTS}: it is damaged or cut short")
    assert not (tmp_path / "cache").exists()
