"""The ten tasks through the whole pipeline: planted faults are found, and packing wastes nothing."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from data_modules.chat import ChatFormat
from data_modules.config import CleaningConfig, DataConfig, SourceConfig, TaskConfig
from data_modules.mixture import MixtureConfig
from data_modules.packing import lay_out
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare.clean_rows import clean_rows
from data_modules.records import Record
from tests.data_modules.cleaning.test_planted_faults import (
    answered,
    planted,
    real_rows,
    task_of,
)
from tests.data_modules.prepare.made_data import kept_origins, lines_of, prepared
from tests.shared_data import REPOSITORY, data_config, real_tokenizer, shared, write_rows


def standard_cleaning() -> CleaningConfig:
    path = REPOSITORY / "conf/cleaning/standard.yaml"
    return CleaningConfig(**yaml.safe_load(path.read_text(encoding="utf-8")))


def as_row(record: Record) -> dict[str, Any]:
    """The row of a file that is read as the record."""
    instruction, request = record.instruction or "", record.request
    given = request.removeprefix(instruction).removeprefix("\n")
    return {"instruction": instruction, "input": given, "output": record.answer}


def ten_tasks(root: Path, cleaning: CleaningConfig, **settings: Any) -> DataConfig:
    """The settings of all ten tasks; training rows under ``root``, evaluation rows where they are."""
    real = shared("data/ten_tasks")
    tasks: dict[str, TaskConfig] = {}
    for path in sorted((real / "train").glob("*.jsonl")):
        tasks[path.stem] = task_of(path.stem)
        tasks[path.stem].sources = {
            "main": SourceConfig(train=f"train/{path.name}", eval=str(real / "eval" / path.name))
        }
    return data_config(root, tasks, cleaning=cleaning, max_seq_len=2048, **settings)


def test_planted_faults_are_found_by_prepare(tmp_path: Path) -> None:
    clean = real_rows("train")
    tasks = {name: task_of(name) for name in sorted({record.task for record in clean})}
    faulty: list[tuple[str, Record]] = planted(clean, tasks)
    evaluation = [record for record in real_rows("eval") if record.task == "qa"]
    for record in random.Random(2).sample(evaluation, 5):
        faulty.append(("contamination", answered(record, "Another answer altogether.")))
    assert Counter(Counter(rule for rule, _ in faulty).values()) == {5: 11}

    expected: dict[str, str] = {}
    lines_before: dict[str, int] = {}
    for task in tasks:
        rows = [as_row(record) for record in clean if record.task == task]
        lines_before[task] = len(rows)
        for rule, record in faulty:
            if record.task == task:
                rows.append(as_row(record))
                expected[f"train/{task}.jsonl:{len(rows)}"] = rule
        write_rows(tmp_path / f"train/{task}.jsonl", rows)
    assert len(expected) == 55

    # A NUL byte is refused where it is read, before any rule.
    nul = [origin for origin, rule in expected.items() if rule == "encoding"][-1]
    expected[nul] = "nul_byte"
    data = ten_tasks(tmp_path, standard_cleaning(), max_reject_ratio=0.01)
    cleaned = clean_rows(data, sorted(data.tasks))
    found = {line["origin"]: line["rule"] for line in lines_of(cleaned.rejects_file)}
    assert {origin: found.get(origin) for origin in expected} == expected
    lost = {origin: rule for origin, rule in found.items() if origin not in expected}
    assert len(lost) <= len(clean) / 100, lost
    # One answer that says "As an AI model, I don't".
    assert lost == {"train/qa.jsonl:412": "refusal"}
    assert len(kept_origins(cleaned)) == len(clean) - len(lost) == 1949
    assert sum(unit.read for unit in cleaned.units) == len(clean) + 55
    # What the reject says of the row is enough to find and to judge it.
    for line in lines_of(cleaned.rejects_file):
        path, _, number = line["origin"].rpartition(":")
        row = json.loads((tmp_path / path).read_text(encoding="utf-8").split("\n")[int(number) - 1])
        told = json.loads(line["row"])
        assert (told["messages"][-1]["content"] if "messages" in told else told) in (
            row["output"],
            row,
        )
        assert line["reason"]


# --- packing

MAX_SEQ_LEN = 2048


@pytest.fixture(scope="module", params=["minimind", "qwen2.5"])
def mixture(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> PhaseDataModule:
    """One epoch of the ten tasks."""
    tokenizer = real_tokenizer(request.param)
    ChatFormat(tokenizer)
    cache = tmp_path_factory.mktemp("cache")
    data = ten_tasks(shared("data/ten_tasks"), CleaningConfig(), cache_dir=str(cache))
    return prepared(
        data,
        {"mix": MixtureConfig(epochs=1)},
        tokenizer=tokenizer,
        global_batch_size=256,
    )


@pytest.mark.parametrize(("world", "micro"), [(1, 1), (1, 4), (2, 2)])
def test_packing_of_the_real_mixture_wastes_less_than_one_token_in_a_hundred(
    mixture: PhaseDataModule, world: int, micro: int
) -> None:
    plan = mixture.plans["mix"]
    assert plan.steps == 8
    real = spent = 0
    for step in range(plan.steps):
        rows = plan.step_rows(step)
        lengths = plan.store.lengths_of(rows)
        layout = lay_out(lengths, world, micro, MAX_SEQ_LEN, packing=True)
        placed = np.concatenate([rows for micro_step in layout for rows in micro_step])
        # The rows of a step are computed in that step, each once.
        assert sorted(placed.tolist()) == list(range(len(rows)))
        real += int(lengths.sum())
        for micro_step in layout:
            sums = [int(lengths[rows].sum()) for rows in micro_step]
            assert max(sums) <= micro * MAX_SEQ_LEN
            spent += world * max(sums)
    assert real == sum(use.tokens for use in plan.use().values())
    assert real / spent >= 0.99


def test_batches_of_the_real_mixture_hold_its_tokens_and_no_padding(
    mixture: PhaseDataModule,
) -> None:
    plan = mixture.plans["mix"]
    rows = plan.step_rows(0)
    batches = mixture.step_batches("mix", 0, np.ones(len(rows)), 0, 1, 2)
    lengths = plan.store.lengths_of(rows)
    assert sum(batch.tokens for batch in batches) == lengths.sum()
    assert sum(batch.input_ids.numel() for batch in batches) == lengths.sum()
    assert all(batch.input_ids.numel() <= 2 * MAX_SEQ_LEN for batch in batches)
    found = [int(n) for b in batches for n in np.diff(b.cu_seqlens.tolist())]
    assert sorted(found) == sorted(lengths.tolist())
