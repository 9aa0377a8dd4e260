"""When a cache entry is stale: every input of rows, samples and plans changes its name, nothing else."""

from __future__ import annotations

import copy
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from data_modules.config import (
    Behaviour,
    BoundaryConfig,
    DataConfig,
    Overlong,
    Supervise,
    TaskConfig,
    Unification,
)
from data_modules.mixture import (
    AutoHardConfig,
    HardBy,
    BalanceConfig,
    MixtureConfig,
    NegativesConfig,
    Order,
    PromptConfig,
)
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare.fingerprints import (
    plan_fingerprint,
    rows_fingerprint,
    tokens_fingerprint,
)
from data_modules.roles import resolve_roles
from data_modules.wording import phase_boundary
from tests.shared_data import CHATML, byte_tokenizer, data_config, write_rows, write_task

TRAINED = ("code", "qa")
RANDOM = PromptConfig(tag_dropout=0.1, cue_share=0.1, paraphrase_share=0.1)

Change = Callable[[DataConfig], object]


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    tasks = {name: write_task(tmp_path, name, 3, 1) for name in TRAINED}
    made = data_config(tmp_path, tasks)
    made.cleaning.tag_leak = made.cleaning.contamination = True
    return made


def of_rows(data: DataConfig) -> str:
    return rows_fingerprint(data, TRAINED, Path(data.cache_dir))


def of_tokens(data: DataConfig, tokenizer: Any = None, **changed: Any) -> str:
    arguments: dict[str, Any] = {
        "trained_tasks": TRAINED,
        "boundary": BoundaryConfig(),
        "prompts": PromptConfig(),
        "phase": "mix",
        "seed": 0,
        "tokenizer": tokenizer or byte_tokenizer(CHATML),
    }
    return tokens_fingerprint(of_rows(data), data, **(arguments | changed))


def swap_tags(one: TaskConfig, two: TaskConfig) -> None:
    one.tag, two.tag = two.tag, one.tag


ROWS: dict[str, Change] = {
    "file bytes": lambda data: write_rows(Path(data.root) / "train/qa.jsonl", []),
    # a training row may be one of them
    "eval bytes": lambda data: write_rows(Path(data.root) / "eval/qa.jsonl", []),
    "fields": lambda data: data.tasks["qa"].sources["main"].fields.update(output="answer"),
    "where": lambda data: setattr(data.tasks["qa"].sources["main"], "where", "quality > 1"),
    "unify": lambda data: data.tasks["qa"].unify.append(Unification.bold),
    "forbidden": lambda data: data.tasks["qa"].forbidden.append(Behaviour.code),
    "answer languages": lambda data: data.tasks["qa"].answer_languages.append("zh"),
    "translates": lambda data: setattr(data.tasks["qa"], "translates", True),
    "a rule": lambda data: setattr(data.cleaning, "placeholder", True),
    "a rule's parameter": lambda data: setattr(data.cleaning, "near_duplicates", 0.8),
    "keep": lambda data: data.cleaning.keep.append("a"),
    "drop": lambda data: data.cleaning.drop.append("a"),
    # tag_leak looks for the tags of every task
    "a tag": lambda data: setattr(data.tasks["qa"], "tag", "[other]"),
    "swapped tags": lambda data: swap_tags(data.tasks["qa"], data.tasks["code"]),
    "another task's tag": lambda data: data.tasks.update(a=TaskConfig(tag="[a]")),
}


@pytest.mark.parametrize("name", ROWS)
def test_what_changes_rows_changes_their_fingerprint_and_that_of_the_tokens(
    data: DataConfig, name: str
) -> None:
    before = of_rows(data), of_tokens(data)
    ROWS[name](data)
    assert of_rows(data) != before[0]
    assert of_tokens(data) != before[1]


def test_a_list_of_ids_counts_by_what_is_in_it(data: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "ids").write_text("b\na\n", encoding="utf-8")
    prints = []
    for keep in ([f"@{tmp_path / 'ids'}"], ["a", "b"], ["a"]):
        data.cleaning.keep = keep
        prints.append(of_rows(data))
    assert prints[0] == prints[1] != prints[2]
    data.cleaning.keep = [f"@{tmp_path / 'ids'}"]
    (tmp_path / "ids").write_text("a\n", encoding="utf-8")
    assert of_rows(data) == prints[2]


TOKENS: dict[str, Change] = {
    "tag": lambda data: setattr(data.tasks["qa"], "tag", "[other]"),
    "tag of a language": lambda data: data.tasks["qa"].tags.update(zh="[other]"),
    "constraint": lambda data: setattr(data.tasks["qa"], "constraint", "Other."),
    "swapped tags": lambda data: swap_tags(data.tasks["qa"], data.tasks["code"]),
    "max_seq_len": lambda data: setattr(data, "max_seq_len", 255),
    "overlong": lambda data: setattr(data, "overlong", Overlong.truncate),
    # Task ids index into all tasks: another task shifts them.
    "new task": lambda data: data.tasks.update(a=TaskConfig()),
    "negatives": lambda data: setattr(data.negatives, "cross_task", 0.1),
    "swapped negatives": lambda data: setattr(data.negatives, "swapped_instruction", 0.1),
    "supervise": lambda data: setattr(data.negatives, "supervise", Supervise.answer),
    # negatives are made of special tasks only
    "general": lambda data: setattr(data.tasks["qa"], "general", True),
}


@pytest.mark.parametrize("name", TOKENS)
def test_what_changes_tokens_changes_their_fingerprint(data: DataConfig, name: str) -> None:
    data.cleaning.tag_leak = data.cleaning.contamination = False
    before = of_rows(data), of_tokens(data)
    TOKENS[name](data)
    assert of_rows(data) == before[0], "the rows are read and cleaned once for all wordings"
    assert of_tokens(data) != before[1]


@pytest.mark.parametrize("other", [BoundaryConfig(tag=False), BoundaryConfig(constraint=False)])
def test_the_boundary_changes_the_tokens(data: DataConfig, other: BoundaryConfig) -> None:
    assert of_tokens(data, boundary=other) != of_tokens(data)


@pytest.mark.parametrize(
    "prompts",
    [
        PromptConfig(tag_dropout=0.1),
        PromptConfig(cue_share=0.1),
        PromptConfig(paraphrase_share=0.1),
    ],
)
def test_random_wording_depends_on_shares_phase_and_seed(
    data: DataConfig, prompts: PromptConfig
) -> None:
    data.tasks["qa"].cues = ["?"]
    prints = [
        of_tokens(data),
        of_tokens(data, prompts=prompts),
        of_tokens(data, prompts=prompts, seed=1),
        of_tokens(data, prompts=prompts, phase="hard"),
    ]
    assert len(set(prints)) == 4
    # Without any draw neither counts: phases that word alike share their samples.
    assert of_tokens(data, seed=1) == of_tokens(data, phase="hard") == prints[0]


def test_made_negatives_are_drawn_by_the_seed(data: DataConfig) -> None:
    data.negatives.cross_task = 0.5
    assert of_tokens(data, seed=1) != of_tokens(data)
    assert of_tokens(data, phase="hard") == of_tokens(data)


def test_cues_and_paraphrases_count_where_they_are_used(data: DataConfig) -> None:
    before = of_tokens(data), of_tokens(data, prompts=RANDOM)
    data.tasks["qa"].cues = ["?"]
    one = of_tokens(data), of_tokens(data, prompts=RANDOM)
    data.tasks["qa"].paraphrases = {"any": ["Please: {instruction}"]}
    two = of_tokens(data), of_tokens(data, prompts=RANDOM)
    assert before[0] == one[0] == two[0]
    assert len({before[1], one[1], two[1]}) == 3


def test_the_tokenizer_and_its_template_change_the_tokens(data: DataConfig) -> None:
    more = byte_tokenizer(CHATML)
    more.add_tokens(["new"])
    other_end = byte_tokenizer(CHATML)
    other_end.eos_token = "<pad>"
    prints = [
        of_tokens(data, tokenizer)
        for tokenizer in (byte_tokenizer(CHATML), byte_tokenizer(CHATML + " "), more, other_end)
    ]
    assert len(set(prints)) == 4


def test_which_tasks_are_trained_changes_it_even_with_equal_files(data: DataConfig) -> None:
    # Two tasks may read the same file, for example to compare tags; their samples still differ.
    data.tasks["qa"].sources = data.tasks["code"].sources
    cache = Path(data.cache_dir)
    assert rows_fingerprint(data, ("qa",), cache) != rows_fingerprint(data, ("code",), cache)
    assert of_tokens(data, trained_tasks=("qa",)) != of_tokens(data, trained_tasks=("code",))


UNRELATED: dict[str, Change] = {
    "packing": lambda data: setattr(data, "packing", False),
    "rows_per_task": lambda data: setattr(data, "rows_per_task", 1),
    "max_reject_ratio": lambda data: setattr(data, "max_reject_ratio", 0.5),
    "max_drop_ratio": lambda data: setattr(data.cleaning, "max_drop_ratio", 0.9),
    "workers": lambda data: setattr(data, "workers", 7),
    "max_new_tokens": lambda data: setattr(data.tasks["qa"], "max_new_tokens", 5),
    "weight": lambda data: setattr(data.tasks["qa"].sources["main"], "weight", 2.0),
    "groups": lambda data: data.groups.update(some=["qa"]),
    "eval bytes": lambda data: write_rows(Path(data.root) / "eval/qa.jsonl", []),
    "file time": lambda data: os.utime(Path(data.root) / "train/qa.jsonl", (1, 1)),
    "order of tasks": lambda data: setattr(data, "tasks", dict(reversed(list(data.tasks.items())))),
}


@pytest.mark.parametrize("name", UNRELATED)
def test_what_leaves_rows_and_tokens_alone_leaves_their_fingerprints_alone(
    data: DataConfig, name: str
) -> None:
    data.cleaning.contamination = False  # else the evaluation rows count
    before = of_rows(data), of_tokens(data)
    UNRELATED[name](data)
    assert (of_rows(data), of_tokens(data)) == before


def test_the_place_of_the_files_does_not_matter(data: DataConfig, tmp_path: Path) -> None:
    moved = copy.deepcopy(data)
    for split in ("train", "eval"):
        shutil.copytree(tmp_path / split, tmp_path / "new" / split)
    moved.root = str(tmp_path / "new")
    moved.cache_dir = str(tmp_path / "elsewhere")
    assert (of_rows(moved), of_tokens(moved)) == (of_rows(data), of_tokens(data))


# --- plans


def of_plan(data: DataConfig, mixture: MixtureConfig, **changed: Any) -> str:
    arguments: dict[str, Any] = {
        "store": "store",
        "phase": "mix",
        "sizes": [8, 0, None, None],
        "source_weights": {"qa/main": 1.0},
        "row_losses": None,
    }
    roles = resolve_roles(data, mixture)
    return plan_fingerprint(mixture=mixture, roles=roles, **(arguments | changed))


MIXTURES = {
    "tasks": MixtureConfig(tasks=["qa"], epochs=1),
    "balance": MixtureConfig(epochs=1, balance=BalanceConfig(min_rows=3)),
    "order": MixtureConfig(epochs=1, order=Order.grouped),
    "block_rows": MixtureConfig(epochs=1, block_rows=8),
    "epochs": MixtureConfig(epochs=2),
    "steps": MixtureConfig(steps=2),
    "negatives": MixtureConfig(epochs=1, negatives=NegativesConfig(share=0.1)),
}


@pytest.mark.parametrize("name", MIXTURES)
def test_what_changes_a_plan_changes_its_fingerprint(data: DataConfig, name: str) -> None:
    plain = MixtureConfig(epochs=1)
    assert of_plan(data, MIXTURES[name]) != of_plan(data, plain)


@pytest.mark.parametrize(
    "changed",
    [
        {"store": "other"},
        {"phase": "hard"},
        {"source_weights": {"qa/main": 2.0}},
        *({"sizes": sizes} for sizes in ([4, 0, None, None], [8, 1, None, None])),
        *({"sizes": sizes} for sizes in ([8, 0, 3, None], [8, 0, None, 3])),
    ],
    ids=str,
)
def test_so_do_samples_phase_sizes_and_weights(data: DataConfig, changed: dict[str, Any]) -> None:
    plain = MixtureConfig(epochs=1)
    assert of_plan(data, plain, **changed) != of_plan(data, plain)


def test_files_of_losses_and_difficulties_count_by_content(
    data: DataConfig, tmp_path: Path
) -> None:
    plain = MixtureConfig(epochs=1)
    file = tmp_path / "losses"
    prints = [of_plan(data, plain), of_plan(data, plain, row_losses=str(file))]
    for text in ("a", "b"):
        file.write_text(text)
        prints.append(of_plan(data, plain, row_losses=str(file)))
        balance = BalanceConfig(difficulty_from=str(file))
        prints.append(of_plan(data, MixtureConfig(epochs=1, balance=balance)))
    assert len(set(prints)) == 6


def test_wording_alone_changes_no_plan_of_the_same_samples(data: DataConfig) -> None:
    # It is in the name of the samples already.
    plain = MixtureConfig(epochs=1)
    assert of_plan(data, MixtureConfig(epochs=1, boundary=False)) == of_plan(data, plain)
    assert of_plan(data, MixtureConfig(epochs=1, prompts=RANDOM)) == of_plan(data, plain)


def test_tasks_that_were_picked_plan_as_if_listed(data: DataConfig) -> None:
    listed = MixtureConfig(tasks=["qa"], epochs=1)
    picked = MixtureConfig(tasks=["qa"], epochs=1, auto_hard=AutoHardConfig(HardBy.gap, most=1))
    assert of_plan(data, picked) == of_plan(data, listed)


def test_the_data_module_names_its_folders_by_these(data: DataConfig) -> None:
    mixture = MixtureConfig(epochs=1, prompts=RANDOM)
    made = PhaseDataModule(data, BoundaryConfig(), {"mix": mixture}, byte_tokenizer(CHATML), 3, 8)
    assert made.cleaned.fingerprint == of_rows(data)
    name = of_tokens(
        data, boundary=phase_boundary(BoundaryConfig(), mixture), prompts=RANDOM, seed=3
    )
    assert made.store_folder("mix") == Path(data.cache_dir) / "samples" / name[:20]
    plan = of_plan(
        data,
        mixture,
        store=name[:20],
        sizes=[8, 3, None, None],
        source_weights={"code/main": 1.0, "qa/main": 1.0},
    )
    assert made.plan_folder("mix") == Path(data.cache_dir) / "plans" / plan[:20]
