"""Hugging Face export: a model directory that plain ``from_pretrained`` loads."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig

from data_modules.config import BoundaryConfig, TaskConfig
from trainer.console import LOGGER
from trainer.engine import ZeroEngine
from trainer.model import plain_loading_differs
from trainer.prompt_template import bounded_tokenizer
from trainer.run_directory import write_text


def export(
    engine: ZeroEngine,
    tokenizer: Any,
    tasks: Mapping[str, TaskConfig],
    boundary: BoundaryConfig,
    folder: Path,
    card: str,
    is_main: bool,
) -> None:
    """Write weights (safetensors), tokenizer, generation config and model card; collective.

    LoRA adapters are merged into the weights and also written on their own to ``adapter/``. The folder
    gets its name when all of it is written.

    Args:
        tokenizer: of the run; it stays as it is, while the exported chat template takes ``task``.
        boundary: of the phase, see ``data_modules.wording.phase_boundary``.
        card: README.md of the export.
    """
    state = _gather(engine, is_main)
    if not is_main:
        return
    whole, folder = folder, folder.with_name(folder.name + ".tmp")
    shutil.rmtree(folder, ignore_errors=True)
    causal = engine.module.causal_model
    adapters = {name: tensor for name, tensor in state.items() if ".lora_" in name}
    if adapters:
        _save_adapter(engine, adapters, folder / "adapter")
    _write_model(causal, _merged(causal, state), folder)
    GenerationConfig(
        do_sample=False,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(folder)
    bounded_tokenizer(tokenizer, tasks, boundary).save_pretrained(folder)
    if plain_loading_differs(tokenizer, folder):
        LOGGER.warning(
            "%s: AutoTokenizer would load another tokenizer for model type '%s'; load this one with "
            "transformers.PreTrainedTokenizerFast.from_pretrained",
            whole,
            causal.config.model_type,
        )
    write_text(folder / "README.md", card)
    shutil.rmtree(whole, ignore_errors=True)
    folder.rename(whole)


def _gather(engine: ZeroEngine, is_main: bool) -> dict[str, torch.Tensor]:
    """Copies of all parameters and persistent buffers on the main rank, in host memory."""
    state: dict[str, torch.Tensor] = {}
    causal = engine.module.causal_model
    for name, parameter in causal.named_parameters():  # yields tied parameters once
        with engine.whole_parameter(parameter):
            if is_main:
                state[name] = parameter.detach().to("cpu", copy=True)
    return state


def _merged(causal: Any, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Weights under their original names, with LoRA updates added."""
    merged: dict[str, torch.Tensor] = {}
    for name, tensor in state.items():
        if ".lora_" in name:
            continue
        plain = name.replace(".base_layer.", ".")
        if plain != name:
            module_name = name.rsplit(".base_layer.", 1)[0]
            layer = causal.get_submodule(module_name)
            if name.endswith("weight"):
                down = state[f"{module_name}.lora_A.default.weight"].float()
                up = state[f"{module_name}.lora_B.default.weight"].float()
                update = up @ down * layer.scaling["default"]
                tensor = (tensor.float() + update).to(tensor.dtype)
        merged[plain] = tensor
    return merged


def _write_model(causal: Any, state: dict[str, torch.Tensor], folder: Path) -> None:
    config = causal.config.__class__.from_dict(causal.config.to_dict())
    config.use_cache = True
    config.dtype = next(iter(state.values())).dtype
    with torch.device("meta"):  # the shell only names the weights; the values come from `state`
        shell = type(causal)(config)
    shell.save_pretrained(folder, state_dict=state)


def _save_adapter(engine: ZeroEngine, adapters: dict[str, torch.Tensor], folder: Path) -> None:
    wrapped: Any = engine.module.model
    prefixed = {f"base_model.model.{name}": tensor for name, tensor in adapters.items()}
    wrapped.save_pretrained(folder, state_dict=prefixed)
