"""Tokens per second and MFU of published model shapes on GPUs: random weights, packed rows, no download.

torchrun --nproc-per-node 1 benchmarks/gpu_speed.py --folder /tmp/gpu --shape qwen3_0.6b
torchrun --nproc-per-node 1 benchmarks/gpu_speed.py --folder /tmp/gpu --shape qwen2.5_7b zero=zero2_offload

Full-parameter training in bf16 with AdamW, micro-batches of 8,192 packed tokens of rows of 64 to 7,400
tokens. The training is ``launch/train.py``'s; further overrides go behind the options. Prints
one JSON object: medians of ``tokens_per_second``, ``mfu`` and ``mfu_of_matmul`` behind the warm-up as
metrics.jsonl has them, peak memory, and the seconds of a step by part. ``--shape smoke`` is a small one
for a CPU.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from hydra import compose, initialize_config_dir
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from launch.composing import CONFIG_FOLDER, addable, prepare_root
from trainer import distributed
from trainer.config.strict_merge import to_config
from trainer.train import train

WORDS, ROWS, WARM_UP = 20_000, 600, 3

#: As their config.json has them; the vocabulary is the model's, whatever the rows use of it.
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3_0.6b": {
        "model_type": "qwen3",
        "vocab_size": 151_936,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40_960,
        "rope_theta": 1_000_000,
        "tie_word_embeddings": True,
    },
    "qwen2.5_7b": {
        "model_type": "qwen2",
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "max_position_embeddings": 32_768,
        "rope_theta": 1_000_000,
        "tie_word_embeddings": False,
    },
    "smoke": {
        "model_type": "qwen3",
        "vocab_size": WORDS + 8,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 40_960,
        "tie_word_embeddings": True,
    },
}


def make_rows(folder: Path, longest: int) -> None:
    """Ten tasks of random words, one token a word, a third of each row its answer."""
    rng = np.random.default_rng(0)
    words = [f"w{number}" for number in range(WORDS)]
    # logarithms evenly spread: many short rows, few long ones, as real mixtures have
    lengths = np.exp(rng.uniform(np.log(64), np.log(longest * 0.9), ROWS)).astype(int)
    for split, part in (("train", lengths), ("eval", lengths[:10])):
        (folder / split).mkdir(parents=True, exist_ok=True)
        for task in range(10):
            with (folder / split / f"task{task}.jsonl").open("w") as file:
                for length in part[task::10]:
                    text = rng.choice(words, length)
                    cut = 2 * length // 3
                    row = {"instruction": " ".join(text[:cut]), "output": " ".join(text[cut:])}
                    file.write(json.dumps(row) + "\n")
    special = ["<unk>", "</s>", "\n"]
    vocabulary = {word: number for number, word in enumerate([*special, *words])}
    built = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    built.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=built, eos_token="</s>", unk_token="<unk>")
    tokenizer.save_pretrained(folder / "tokenizer")


def overrides(folder: Path, shape: str, length: int, steps: int) -> list[str]:
    """The command line of the run."""
    fields = ",".join(f"{key}:{str(value).lower()}" for key, value in SHAPES[shape].items())
    return [
        *("data=folder", f"data.root={folder}/rows", f"data.cache_dir={folder}/cache"),
        *("cleaning@data.cleaning=none", f"data.max_seq_len={length}", "boundary=none"),
        *("model=tiny", f"model.name={shape}", f"model.tokenizer={folder}/rows/tokenizer"),
        f"model.architecture={{{fields}}}",
        *("curriculum=single", "balance@curriculum.phases.mix.balance=natural"),
        *("curriculum.phases.mix.replay=0.0", "curriculum.phases.mix.lr=1e-5"),
        *("curriculum.phases.mix.epochs=null", f"curriculum.phases.mix.steps={steps}"),
        *("precision=bf16", "global_batch_size=16", "micro_batch_size=1"),
        *("evaluation=none", "interference=none"),
        *("checkpoint.sharded=false", "checkpoint.every_minutes=null", "checkpoint.export=false"),
        *("resume=never", f"output_dir={folder}/run"),
    ]


def figures(metrics: Path) -> dict[str, Any]:
    """Medians behind the warm-up, and the peak of memory."""
    steps = [json.loads(line) for line in metrics.read_text(encoding="utf-8").splitlines()]
    steps = [one for one in steps if "loss" in one][WARM_UP:]
    names = [
        name
        for name in steps[0]
        if name.startswith(("time/", "mfu")) or name.endswith("tokens_per_second")
    ]
    found = {name: statistics.median(one[name] for one in steps) for name in names}
    found["tokens"] = statistics.median(one["tokens"] for one in steps)
    memory = [name for name in steps[0] if name.startswith("memory/")]
    return found | {name: max(one[name] for one in steps) for name in memory}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--shape", choices=list(SHAPES), required=True)
    parser.add_argument("--length", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=13)
    options, more = parser.parse_known_args()
    folder = options.folder.resolve()
    ranks = distributed.ranks_from_environment()
    if ranks.is_main:
        make_rows(folder / "rows", options.length)
        (folder / "ready").touch()
    while not (folder / "ready").exists():  # the rows are always the same: those of before will do
        time.sleep(0.1)
    given = overrides(folder, options.shape, options.length, options.steps)
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = to_config(compose("train", addable([*given, *more])))
    prepare_root(config)
    train(config)
    if ranks.is_main:
        print(json.dumps({"shape": options.shape, **figures(folder / "run" / "metrics.jsonl")}))
    distributed.shutdown()


if __name__ == "__main__":
    main()
