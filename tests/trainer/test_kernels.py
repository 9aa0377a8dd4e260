"""Liger's kernels and torch.compile: put in where they can be, refused where not, told in one line."""

from __future__ import annotations

import importlib.metadata
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

from data_modules.faults import ConfigFault
from trainer import attention
from trainer.attention import backends
from trainer.config.schema import Compile, Config, Liger
from trainer.kernels import apply_kernels, chosen, compile_layers

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def model(kind: str = "llama") -> Any:
    described = AutoConfig.for_model(
        kind,
        vocab_size=40,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return AutoModelForCausalLM.from_config(
        described, dtype=torch.float32, attn_implementation=attention.NAME
    )


def config(liger: Liger = Liger.auto, compile_: Compile = Compile.off) -> Config:
    made = Config()
    made.kernels.liger, made.kernels.compile = liger, compile_
    return made


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, bool]]]:
    """A liger-kernel that keeps what it is asked to change."""
    calls: list[tuple[Any, dict[str, bool]]] = []

    def apply(model: Any, **settings: bool) -> None:
        calls.append((model, settings))

    table = SimpleNamespace(MODEL_TYPE_TO_APPLY_LIGER_FN={"llama": None})
    monkeypatch.setitem(sys.modules, "liger_kernel", SimpleNamespace())
    monkeypatch.setitem(
        sys.modules,
        "liger_kernel.transformers",
        SimpleNamespace(_apply_liger_kernel_to_instance=apply, monkey_patch=table),
    )
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", table)
    monkeypatch.setattr(backends, "_capability", lambda _: (9, 0))
    install(monkeypatch, "0.8.5")
    return calls


def install(monkeypatch: pytest.MonkeyPatch, version: str | None) -> None:
    real = importlib.metadata.version

    def found(name: str) -> str:
        if name != "liger-kernel":
            return real(name)
        if version is None:
            raise importlib.metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr(importlib.metadata, "version", found)


@pytest.mark.parametrize("liger", [Liger.auto, Liger.on])
def test_liger_changes_layers_and_never_the_loss(library: list[Any], liger: Liger) -> None:
    one = model()
    apply_kernels(config(liger), one, CUDA)
    ((given, settings),) = library
    assert given is one
    assert settings == {"cross_entropy": False, "fused_linear_cross_entropy": False}
    assert "Liger on" in chosen(config(liger), one, CUDA).words


def test_liger_is_left_out_where_it_is_switched_off(library: list[Any]) -> None:
    apply_kernels(config(Liger.off), model(), CUDA)
    assert library == []
    assert "Liger off (kernels.liger=off)" in chosen(config(Liger.off), model(), CUDA).words


@pytest.mark.parametrize(
    ("kind", "device", "version", "reason"),
    [
        ("llama", CPU, "0.8.5", "there is no GPU here"),
        ("llama", CUDA, None, "liger-kernel is not installed"),
        ("llama", CUDA, "0.8.1", "liger-kernel 0.8.1 is older than 0.8.2"),
        ("qwen2", CUDA, "0.8.5", "liger-kernel has nothing for model type 'qwen2'"),
    ],
)
def test_what_cannot_be_is_told_or_refused(
    library: list[Any],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    device: torch.device,
    version: str | None,
    reason: str,
) -> None:
    install(monkeypatch, version)
    one = model(kind)
    apply_kernels(config(Liger.auto), one, device)
    assert f"Liger off ({reason})" in chosen(config(Liger.auto), one, device).words
    with pytest.raises(ConfigFault) as caught:
        apply_kernels(config(Liger.on), one, device)
    (fault,) = caught.value.faults
    assert (fault.where, fault.seen, fault.rule) == ("kernels.liger", "on", reason)
    assert "kernels.liger=auto" in fault.remedy
    assert library == []


def test_a_liger_that_cannot_be_loaded_is_told(
    library: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers.monkey_patch", None)
    apply_kernels(config(Liger.auto), model(), CUDA)
    assert "Liger off (liger-kernel cannot be loaded" in chosen(config(), model(), CUDA).words
    with pytest.raises(ConfigFault, match="liger-kernel cannot be loaded"):
        apply_kernels(config(Liger.on), model(), CUDA)
    assert library == []


def test_what_is_compiled_needs_no_liger(library: list[Any]) -> None:
    apply_kernels(config(compile_=Compile.blocks), model(), CUDA)
    assert library == []
    words = chosen(config(compile_=Compile.blocks), model(), CUDA).words
    assert words.endswith("Liger off (layers are compiled), torch.compile each layer")


@pytest.mark.usefixtures("library")
def test_the_attention_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = config()
    for installed, name in ((True, "flash"), (False, "varlen")):
        monkeypatch.setattr(backends, "flash_is_installed", lambda there=installed: there)
        assert chosen(made, model(), CUDA).words.startswith(f"attention {name}, ")
    assert chosen(made, model(), CPU).words.startswith("attention by_segment, ")
    made.data.packing = False
    assert chosen(made, model(), CUDA).words.startswith("attention unpacked, ")


def test_each_layer_is_compiled_and_none_while_generating() -> None:
    one = model()
    compile_layers(one)
    layers = list(one.model.layers)
    assert all(layer._compiled_call_impl for layer in layers)
    assert one._compiled_call_impl is None
    calls = [layer._compiled_call_impl for layer in layers]
    with attention.generation_attention(one), torch.no_grad():
        assert not any(layer._compiled_call_impl for layer in layers)
        one.generate(torch.tensor([[1, 2, 3]]), max_new_tokens=2, pad_token_id=0)
    assert [layer._compiled_call_impl for layer in layers] == calls


def test_a_model_without_layers_is_not_compiled() -> None:
    with pytest.raises(ConfigFault, match="GradientCheckpointingLayer"):
        compile_layers(nn.Linear(2, 2))  # type: ignore[arg-type]
