"""Tokenizer and model: from a directory, a hub name or an architecture without weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    TokenizersBackend,
)
from transformers.models.auto.tokenization_auto import get_tokenizer_config

from data_modules.faults import ConfigFault, Fault
from trainer import attention
from trainer.config.schema import AdaptationConfig, AdaptationKind, Init, ModelConfig
from trainer.loss import SupervisedHead
from trainer.prompt_template import make_plain

GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")


def load_tokenizer(config: ModelConfig, init_from: str | None) -> Any:
    """The tokenizer of the run.

    Raises:
        ConfigFault: it cannot be loaded.
    """
    path = init_from or config.tokenizer or config.path
    assert path is not None, "validated"
    key = "init_from" if init_from else ("model.tokenizer" if config.tokenizer else "model.path")
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=config.trust_remote_code)
    except (OSError, ValueError) as error:
        raise _not_loadable(key, path, error) from error
    tokenizer = _as_declared(tokenizer, path)
    make_plain(tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def _as_declared(tokenizer: Any, path: str) -> Any:
    """The tokenizer that the directory's own files describe.

    For some model types (qwen2 among them) AutoTokenizer puts a class of its own in the place of a
    generic ``tokenizer.json``, with other ids and no error. Where the files declare the generic
    class, that class is loaded.
    """
    if Path(path).is_dir() and type(tokenizer) is not TokenizersBackend:
        declared = get_tokenizer_config(path).get("tokenizer_class")
        if declared in GENERIC_TOKENIZERS:
            return TokenizersBackend.from_pretrained(path)
    return tokenizer


def plain_loading_differs(tokenizer: Any, folder: Path) -> bool:
    """Whether plain AutoTokenizer would not load the exported ``tokenizer`` from ``folder``."""
    return type(AutoTokenizer.from_pretrained(folder)) is not type(tokenizer)


def check_vocabulary(config: ModelConfig, tokenizer: Any, init_from: str | None) -> None:
    """Compare tokenizer and model from the model's ``config.json`` alone, before data is read.

    Raises:
        ConfigFault: the tokenizer has more tokens than the model has embeddings, or transformers
            does not know the model.
    """
    rows = _described(config, tokenizer, init_from).get_text_config().vocab_size
    if len(tokenizer) > rows:
        raise ConfigFault(
            Fault(
                "model.tokenizer",
                f"the tokenizer has {len(tokenizer)} tokens, the model {rows} embeddings",
                "every token needs an embedding",
                "Use the tokenizer that belongs to the model.",
            )
        )


def max_positions(config: ModelConfig, tokenizer: Any, init_from: str | None) -> int | None:
    """Tokens that the model was made for, by its ``config.json`` alone; None if that does not say.

    Raises:
        ConfigFault: as :func:`check_vocabulary`.
    """
    described = _described(config, tokenizer, init_from).get_text_config()
    positions: int | None = getattr(described, "max_position_embeddings", None)
    return positions


def _described(config: ModelConfig, tokenizer: Any, init_from: str | None) -> PretrainedConfig:
    """The model's configuration, without its weights."""
    path = init_from or (config.path if config.init is Init.pretrained else None)
    if path is None:
        return _architecture(config, tokenizer)
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=config.trust_remote_code)
    except (OSError, ValueError) as error:
        raise _not_loadable("init_from" if init_from else "model.path", path, error) from error


def load_model(config: ModelConfig, tokenizer: Any, init_from: str | None, seed: int) -> Any:
    """The model in fp32, with segment attention and a loss-computing head.

    Args:
        init_from: model directory that replaces ``model.path`` and ``model.init``.

    Raises:
        ConfigFault: it cannot be loaded.
    """
    path = init_from or (config.path if config.init is Init.pretrained else None)
    if path is None:
        model = _random(config, tokenizer, seed)
    else:
        key = "init_from" if init_from else "model.path"
        try:
            model = AutoModelForCausalLM.from_pretrained(
                path,
                dtype=torch.float32,
                attn_implementation=attention.NAME,
                trust_remote_code=config.trust_remote_code,
                use_safetensors=True,
            )
        except (OSError, ValueError) as error:
            raise _not_loadable(key, path, error) from error
    SupervisedHead.adopt(model.get_output_embeddings())
    model.config.use_cache = False
    if config.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return model


def _architecture(config: ModelConfig, tokenizer: Any) -> PretrainedConfig:
    fields = {"vocab_size": len(tokenizer), **config.architecture}
    model_type = fields.pop("model_type")
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        fields.setdefault(token, getattr(tokenizer, token))
    try:
        return AutoConfig.for_model(model_type, **fields)
    except (ValueError, TypeError) as error:
        raise ConfigFault(
            Fault("model.architecture", str(error).splitlines()[0], "transformers must know it")
        ) from error


def _random(config: ModelConfig, tokenizer: Any, seed: int) -> PreTrainedModel:
    architecture = _architecture(config, tokenizer)
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(
        architecture, dtype=torch.float32, attn_implementation=attention.NAME
    )


def _not_loadable(key: str, path: str, error: Exception) -> ConfigFault:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    remedy = (
        "Check the directory's files."
        if Path(path).is_dir()
        else "It is no directory here; as a hub name it must exist and the hub must be reachable."
    )
    return ConfigFault(Fault(key, f"{path}: {first}", "it must load with transformers", remedy))


def adapt(model: Any, config: AdaptationConfig) -> Any:
    """Wrap the model with LoRA adapters, or return it unchanged for full-parameter training.

    Raises:
        ConfigFault: ``adaptation.target_modules`` matches nothing.
    """
    if config.kind is AdaptationKind.full:
        return model
    from peft import LoraConfig, get_peft_model

    targets = config.target_modules
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=targets[0] if targets == ["all-linear"] else targets,
        task_type="CAUSAL_LM",
    )
    try:
        wrapped = get_peft_model(model, lora)
    except ValueError as error:
        raise ConfigFault(
            Fault("adaptation.target_modules", str(targets), "they must name linear modules")
        ) from error
    # Activation checkpointing needs an input with a gradient, which frozen embeddings do not give.
    wrapped.enable_input_require_grads()
    return wrapped
