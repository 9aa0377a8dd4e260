"""Tokenizer and model: from a directory, a hub name or an architecture without weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

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
from trainer import attention, model_files
from trainer.config.schema import AdaptationConfig, AdaptationKind, Init, ModelConfig
from trainer.loss import SupervisedHead
from trainer.prompt_template import make_plain
from trainer.sequence_parallel import sharing_faults

GENERIC_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
_SHOWN = 5

Loaded = TypeVar("Loaded")


def check_files(config: ModelConfig, init_from: str | None) -> None:
    """Look at the files of local directories that weights and tokenizer will be loaded from.

    Raises:
        ConfigFault: all that are damaged, cut short, missing, or no safetensors.
    """
    faults: list[Fault] = []
    weights = _weights_path(config, init_from)
    key, tokenizer = _tokenizer_path(config, init_from)
    folders = {Path(path) for path in (weights, tokenizer) if path is not None}
    for folder in sorted(folders):
        if folder.is_dir():
            faults += model_files.description_faults(folder)
    if weights is not None and Path(weights).is_dir():
        faults += model_files.weights_faults(_weights_key(init_from), Path(weights))
    if Path(tokenizer).is_dir():
        trusted = config.trust_remote_code
        faults += model_files.vocabulary_faults(key, Path(tokenizer), trusted)
    if faults:
        raise ConfigFault(faults)


def _weights_path(config: ModelConfig, init_from: str | None) -> str | None:
    """Where weights come from; None makes random ones."""
    return init_from or (config.path if config.init is Init.pretrained else None)


def _weights_key(init_from: str | None) -> str:
    return "init_from" if init_from else "model.path"


def _tokenizer_path(config: ModelConfig, init_from: str | None) -> tuple[str, str]:
    """Key and path of the tokenizer."""
    path = init_from or config.tokenizer or config.path
    assert path is not None, "validated"
    key = "init_from" if init_from else ("model.tokenizer" if config.tokenizer else "model.path")
    return key, path


def checked_tokenizer(config: ModelConfig, init_from: str | None) -> Any:
    """The tokenizer of the run, behind a look at all files of the model; no data is read yet.

    Raises:
        ConfigFault: files are damaged, or the tokenizer cannot be loaded or does not fit the model.
    """
    check_files(config, init_from)
    tokenizer = load_tokenizer(config, init_from)
    check_vocabulary(config, tokenizer, init_from)
    return tokenizer


def load_tokenizer(config: ModelConfig, init_from: str | None) -> Any:
    """The tokenizer of the run.

    Raises:
        ConfigFault: it cannot be loaded.
    """
    key, path = _tokenizer_path(config, init_from)

    def load() -> Any:
        found = AutoTokenizer.from_pretrained(path, trust_remote_code=config.trust_remote_code)
        return _as_declared(found, path)

    tokenizer = _loaded(key, path, load)
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
    try:
        plain = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except ValueError:
        return False  # code of its own makes it, for those who let it run
    return type(plain) is not type(tokenizer)


def check_vocabulary(config: ModelConfig, tokenizer: Any, init_from: str | None) -> None:
    """Compare tokenizer and model from the model's ``config.json`` alone, before data is read.

    Raises:
        ConfigFault: the tokenizer has more tokens than the model has embeddings, or transformers
            does not know the model.
    """
    rows = describe(config, tokenizer, init_from).get_text_config().vocab_size
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
    described = describe(config, tokenizer, init_from).get_text_config()
    positions: int | None = getattr(described, "max_position_embeddings", None)
    return positions


def check_attention(
    config: ModelConfig, tokenizer: Any, init_from: str | None, max_seq_len: int, parts: int
) -> None:
    """Look in the model's ``config.json`` alone whether its attention can be trained as asked.

    Args:
        parts: ranks that share a sequence.

    Raises:
        ConfigFault: it cannot.
    """
    described = describe(config, tokenizer, init_from)
    faults = list(attention.window_faults(described, max_seq_len))
    if parts > 1:
        faults += sharing_faults(described, parts)
    if faults:
        raise ConfigFault(faults)


def describe(config: ModelConfig, tokenizer: Any, init_from: str | None) -> PretrainedConfig:
    """The model's configuration, without its weights.

    Args:
        tokenizer: gives a random model the size of its vocabulary.

    Raises:
        ConfigFault: transformers cannot read it.
    """
    path = _weights_path(config, init_from)
    if path is None:
        return _architecture(config, tokenizer)

    def load() -> PretrainedConfig:
        return AutoConfig.from_pretrained(path, trust_remote_code=config.trust_remote_code)

    return _loaded(_weights_key(init_from), path, load)


def load_model(config: ModelConfig, tokenizer: Any, init_from: str | None, seed: int) -> Any:
    """The model in fp32, with segment attention and a loss-computing head.

    Args:
        init_from: model directory that replaces ``model.path`` and ``model.init``.

    Raises:
        ConfigFault: it cannot be loaded, or its files lack weights, hold some of another shape, or
            hold values that are no finite numbers.
    """
    path = _weights_path(config, init_from)
    if path is None:
        model = _random(config, tokenizer, seed)
    else:
        model = _pretrained(config, _weights_key(init_from), path)
    SupervisedHead.adopt(model.get_output_embeddings())
    model.config.use_cache = False
    if config.activation_checkpointing:
        checkpoint_activations(model)
    return model


def checkpoint_activations(model: PreTrainedModel) -> None:
    """Let a model keep the inputs of its layers only, and compute the rest again in the backward."""
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})


def _architecture(config: ModelConfig, tokenizer: Any) -> PretrainedConfig:
    fields = {"vocab_size": len(tokenizer), **config.architecture}
    model_type = fields.pop("model_type")
    for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
        fields.setdefault(token, getattr(tokenizer, token))
    return _built(lambda: AutoConfig.for_model(model_type, **fields))


def _random(config: ModelConfig, tokenizer: Any, seed: int) -> PreTrainedModel:
    architecture = _architecture(config, tokenizer)
    torch.manual_seed(seed)
    return _built(
        lambda: AutoModelForCausalLM.from_config(
            architecture, dtype=torch.float32, attn_implementation=attention.NAME
        )
    )


def _built(build: Callable[[], Loaded]) -> Loaded:
    """What ``build`` makes of settings; what goes wrong is a fault of ``model.architecture``."""
    try:
        return build()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # any: a wrong field fails wherever a model first uses it
        rule = "transformers must know it and build a model from it"
        raise ConfigFault(Fault("model.architecture", _first_line(error), rule)) from error


def _pretrained(config: ModelConfig, key: str, path: str) -> PreTrainedModel:
    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(
            path,
            dtype=torch.float32,
            attn_implementation=attention.NAME,
            trust_remote_code=config.trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # named below, with the shapes
        )

    model, found = _loaded(key, path, load)
    faults: list[Fault] = []
    remedy = "The weights must be those of the config.json beside them; copy both again."
    for name, in_file, in_model in sorted(found["mismatched_keys"])[:_SHOWN]:
        seen = f"{path}: {name} is {list(in_file)} in the file and {list(in_model)} in the model"
        rule = f"{len(found['mismatched_keys'])} weights do not fit"
        faults.append(Fault(key, seen, rule, remedy))
    # tied weights are not among them: one of the names is enough
    if missing := sorted(found["missing_keys"]):
        seen = f"{path}: no file holds {model_files.shown(missing)}"
        rule = f"{len(missing)} weights would be random"
        faults.append(Fault(key, seen, rule, remedy))
    faults += [
        Fault(key, f"{path}: {one}", "it must load with transformers", remedy)
        for one in found["error_msgs"]
    ]
    if not faults:
        infinite = [name for name, one in model.named_parameters() if not torch.isfinite(one).all()]
        if infinite:
            seen = f"{path}: {model_files.shown(infinite)} hold NaN or infinity"
            rule = "weights are finite numbers"
            faults.append(Fault(key, seen, rule, "Take weights from before the run diverged."))
    if faults:
        raise ConfigFault(faults)
    return model


def _loaded(key: str, path: str, load: Callable[[], Loaded]) -> Loaded:
    """What ``load`` returns; what goes wrong with files of others is a fault of ``key``."""
    try:
        return load()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except (
        Exception
    ) as error:  # any: damaged files make transformers and tokenizers raise all kinds
        raise _not_loadable(key, path, error) from error


def _not_loadable(key: str, path: str, error: Exception) -> ConfigFault:
    remedy = (
        "Check the directory's files."
        if Path(path).is_dir()
        else "It is no directory here; as a hub name it must exist and the hub must be reachable."
    )
    if "trust_remote_code" in str(error):
        remedy = (
            "It brings code of its own: read it, then set model.trust_remote_code=true to run it."
        )
    return ConfigFault(
        Fault(key, f"{path}: {_first_line(error)}", "it must load with transformers", remedy)
    )


def _first_line(error: Exception) -> str:
    first = next(iter(str(error).strip().splitlines()), "")
    if not isinstance(error, OSError | ValueError) or not first:
        first = f"{type(error).__name__} {first}".strip()
    return first


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
