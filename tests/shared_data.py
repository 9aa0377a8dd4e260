"""What several tests share: tokenizers and stores built here, and real ones from outside.

Real tokenizers and models are no part of the repository. They are looked for under
``$POLYPHASE_SHARED``, by default ``shared`` beside the repository; a test that needs one skips,
naming what it did not find.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data_modules.config import DataConfig, SourceConfig, TaskConfig
from data_modules.samples import Sample, SampleStore, key_of

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("POLYPHASE_SHARED", REPOSITORY.parent / "shared"))
REAL_TOKENIZERS = {
    "minimind": "tokenizers/minimind/model",
    "qwen2.5": "tokenizers/qwen2.5",
    "stories260K": "models/stories260K/hf",
}

# One template as Qwen and many others have it: the end token, then a line break.
CHATML = (
    "{% for m in messages %}<|{{ m['role'] }}|>\n{{ m['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


def shared(relative: str) -> Path:
    """A folder under ``$POLYPHASE_SHARED``; skips the test where it is absent."""
    path = SHARED / relative
    if not path.is_dir():
        pytest.skip(f"no {relative} under {SHARED} (POLYPHASE_SHARED)")
    return path


def real_tokenizer(name: str) -> Any:
    """One of :data:`REAL_TOKENIZERS`, or a skip."""
    return AutoTokenizer.from_pretrained(shared(REAL_TOKENIZERS[name]))


def byte_tokenizer(template: str | None = None, prepend: bool = False) -> Any:
    """A lossless byte-level tokenizer of 261 symbols without any download.

    Its two merges, over line breaks and over a colon before one, are there to catch text that is
    tokenised across the border between prompt and answer.

    Args:
        prepend: put a word mark before every piece of text, as SentencePiece tokenizers do.
    """
    symbols = ["<pad>", "<s>", "</s>", *sorted(pre_tokenizers.ByteLevel.alphabet()), "ĊĊ", ":Ċ"]
    model = models.BPE(
        vocab={symbol: index for index, symbol in enumerate(symbols)},
        merges=[("Ċ", "Ċ"), (":", "Ċ")],
    )
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    if prepend:
        backend.normalizer = normalizers.Prepend("_")
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        chat_template=template,
    )


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write JSONL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_task(root: Path, task: str, train: int, evaluation: int = 0) -> TaskConfig:
    """Files of one task with rows of differing lengths, every answer unlike any other."""

    def rows(split: str, count: int) -> list[dict[str, str]]:
        return [
            {"instruction": f"{task} {split} " + "x" * (7 * i % 11), "output": f"{task}{i}"}
            for i in range(count)
        ]

    write_rows(root / f"train/{task}.jsonl", rows("train", train))
    source = SourceConfig(train=f"train/{task}.jsonl")
    if evaluation:
        write_rows(root / f"eval/{task}.jsonl", rows("eval", evaluation))
        source.eval = f"eval/{task}.jsonl"
    return TaskConfig(sources={"main": source}, tag=f"[{task}]", constraint=f"Answer as {task}.")


def data_config(root: Path, tasks: dict[str, TaskConfig], **settings: Any) -> DataConfig:
    """Data settings with a cache of their own beside the data."""
    defaults: dict[str, Any] = {"max_seq_len": 256, "cache_dir": str(root / "cache")}
    return DataConfig(name="test", root=str(root), tasks=tasks, **(defaults | settings))


def made_store(lengths: Mapping[str, Iterable[int]]) -> SampleStore:
    """A store of made-up samples; the same task gets the same tokens whatever the others are.

    The last third of every sample, at least one token, is supervised.

    Args:
        lengths: task -> tokens of each sample; a negative number makes a negative of so many.
    """
    tasks = tuple(sorted(lengths))

    def sample(task: str, index: int, signed: int) -> Sample:
        length, sign = abs(signed), 1 if signed > 0 else -1
        mark = sum(map(ord, task))
        ids = [1000 * mark + 100 * index + place for place in range(length)]
        mask = np.arange(length) >= min(length - 1, max(1, 2 * length // 3))
        return Sample(task, ids, mask, sign, row_key=key_of(task, str(index)))

    return SampleStore.build(
        tasks,
        (sample(task, i, length) for task in tasks for i, length in enumerate(lengths[task])),
    )
