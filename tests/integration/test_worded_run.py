"""One phase with everything that words and orders rows at once: any number of ranks trains the same.

Foreign cues, paraphrases, tag dropout, negatives and easy-to-hard order are drawn by seed and name, never
by rank or process; and what is exported words a request as training did.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from launching import composed, steps_of, train_under_torchrun, without_clocks
from transformers import AutoTokenizer

from data_modules.mixture import PromptConfig
from data_modules.phase_data_module import PhaseDataModule
from trainer.train import make_data, train

# fp32 sums in another order, carried on by ten AdamW steps.
LOSS_TOLERANCE = 2e-5
GRAD_NORM_TOLERANCE = 2e-3
MIX = "curriculum.phases.mix"
STEPS = 10
TWICE = "{instruction} {instruction}"  # in words that the benchmark's tokenizer knows


def overrides(root: Path, name: str, *more: str) -> list[str]:
    """The run; each has a cache of its own, so that nothing is shared but seed and settings."""
    return [
        *("+phase=mix", "model=bench_scratch", "precision=fp32", "zero=zero2"),
        *("global_batch_size=16", "micro_batch_size=2", "cluster.threads_per_rank=1"),
        f"data.root={root}/data",
        f"data.cache_dir={root}/cache-{name}",
        f"output_dir={root}/{name}",
        "data.max_seq_len=96",
        "data.benchmark.multiplier=0.5",
        "data.benchmark.general_rows=100",
        "data.benchmark.eval_rows=4",
        "data.negatives.cross_task=0.5",
        "data.negatives.swapped_instruction=0.5",
        f"data.tasks.qa.paraphrases={{any:['{TWICE}']}}",
        f"data.tasks.sorting.paraphrases={{any:['{TWICE}']}}",
        f"{MIX}.epochs=null",
        f"{MIX}.steps={STEPS}",
        f"{MIX}.lr=1e-3",
        f"{MIX}.order=easy_to_hard",
        f"{MIX}.prompts={{tag_dropout:0.3,cue_share:0.4,paraphrase_share:0.5}}",
        f"{MIX}.negatives={{share:0.4,weight:0.3,start:0.2,pairs:true}}",
        "evaluation=none",
        "checkpoint=export_only",
        *more,
    ]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("worded")
    composed(overrides(root, "one"))  # generates the data once
    return root


@pytest.fixture(scope="module")
def one_rank(root: Path) -> Path:
    train(composed(overrides(root, "one")))
    return root / "one"


@pytest.fixture(scope="module")
def two_ranks(root: Path) -> Path:
    train_under_torchrun([overrides(root, "two")], 2, root)
    return root / "two"


def loaded(root: Path, name: str, *more: str) -> PhaseDataModule:
    data = make_data(composed(overrides(root, name, *more)), None)
    data.prepare()
    data.load()
    return data


def test_two_ranks_give_the_losses_of_one(one_rank: Path, two_ranks: Path) -> None:
    one, two = steps_of(one_rank), steps_of(two_ranks)
    assert [entry["step"] for entry in one] == list(range(1, STEPS + 1))
    for entry, other in zip(one, two, strict=True):
        assert entry.keys() == other.keys()
        for name, value in without_clocks(entry).items():
            if isinstance(value, float) and name != "lr":
                rel = GRAD_NORM_TOLERANCE if name == "grad_norm" else LOSS_TOLERANCE
                assert other[name] == pytest.approx(value, rel=rel), name
            else:
                assert other[name] == value, name
    assert one[-1]["loss"] < 0.9 * one[0]["loss"], "a curve that stands still would always agree"


def test_both_had_the_same_plan(one_rank: Path, two_ranks: Path) -> None:
    def plan(run: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((run / "plan.json").read_text(encoding="utf-8"))
        return found["phases"]["mix"]

    assert plan(one_rank)["fingerprint"] == plan(two_ranks)["fingerprint"]
    assert plan(one_rank)["tasks"] == plan(two_ranks)["tasks"]


def test_the_run_has_everything_it_is_about(root: Path, one_rank: Path) -> None:
    data = loaded(root, "one")
    plan, wording = data.plans["mix"], data.token_stats("mix").wording
    special = [task for task in data.tasks if not data.data.tasks[task].general]
    rows = sum(wording.rows[task] for task in special)
    assert sum(map(sum, (cues.values() for cues in wording.cues.values()))) / rows == pytest.approx(
        0.4, abs=0.05
    )
    assert wording.tagged.total() / rows == pytest.approx(0.7, abs=0.05)
    for task in ("qa", "sorting"):
        assert wording.paraphrased[task] / wording.rows[task] == pytest.approx(0.5, abs=0.15)
    assert wording.paraphrased.total() == wording.paraphrased["qa"] + wording.paraphrased["sorting"]
    # short rows first; replay is spread over the phase, and negatives stand where their pairs do
    general = data.tasks.index("general")
    ordered = (plan.store.signs[plan.rows] > 0) & (plan.store.task_ids[plan.rows] != general)
    lengths = plan.store.lengths_of(plan.rows[ordered])
    assert (lengths[1:] >= lengths[:-1]).all()
    assert lengths[-1] > 2 * lengths[0]
    measured = [any(name.startswith("negative/p/") for name in one) for one in steps_of(one_rank)]
    assert measured[:2] == [False, False], "a fifth of the ten steps"
    assert any(measured[2:])


def test_the_exported_template_gives_the_ids_of_training(root: Path, one_rank: Path) -> None:
    # The same tasks, worded without any draw: what a user of the export is to get.
    plain = f"{MIX}.prompts={{tag_dropout:0.0,cue_share:0.0,paraphrase_share:0.0}}"
    data = loaded(root, "one", plain)
    assert data.mixtures["mix"].prompts == PromptConfig()
    store = data.store("mix")
    exported = AutoTokenizer.from_pretrained(one_rank / "phases/mix/hf")
    for task in data.tasks:
        lines = (root / f"data/train/{task}.jsonl").read_text(encoding="utf-8").splitlines()
        by_user = set()
        for row in map(json.loads, lines):
            turns = [{"role": "user", "content": f"{row['instruction']}\n{row['input']}"}]
            prompt = exported.apply_chat_template(
                turns, task=task, add_generation_prompt=True, return_dict=False
            )
            turns.append({"role": "assistant", "content": row["output"]})
            whole = exported.apply_chat_template(turns, task=task, return_dict=False)
            assert whole[: len(prompt)] == prompt
            by_user.add((tuple(whole), len(prompt)))
        seen = set()
        for row in store.rows_of(task):
            ids, supervised = store.tokens(int(row))
            seen.add((tuple(ids.tolist()), int(supervised.argmax())))
        assert seen == by_user, task
