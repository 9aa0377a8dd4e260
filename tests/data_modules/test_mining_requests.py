"""Which training requests a model is asked to find its leaks, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from data_modules.config import BoundaryConfig, DataConfig, PromptSet, SourceConfig, TaskConfig
from data_modules.mining_requests import MiningRequest, mining_requests
from data_modules.mixture import MixtureConfig
from data_modules.phase_data_module import PhaseDataModule
from tests.shared_data import CHATML, byte_tokenizer, data_config, write_rows

CUES = {"qa": [" ?"], "code": [" {}"], "list": []}
ALL_SETS = list(PromptSet)


def make_task(root: Path, name: str, rows: int, first: int = 0) -> TaskConfig:
    write_rows(
        root / f"train/{name}.jsonl",
        (
            {"instruction": f"do {name}", "input": f"part {i}", "output": f"{name} {i}"}
            for i in range(first, first + rows)
        ),
    )
    return TaskConfig(
        sources={"main": SourceConfig(train=f"train/{name}.jsonl")},
        tag=f"[{name}]",
        constraint=f"Only {name}.",
        cues=CUES.get(name, []),
        general=name == "chat",
    )


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    tasks = {name: make_task(tmp_path, name, 12) for name in ("qa", "code", "list", "chat")}
    return data_config(tmp_path, tasks)


def module(data: DataConfig, seed: int = 0) -> PhaseDataModule:
    return PhaseDataModule(
        data=data,
        boundary=BoundaryConfig(),
        mixtures={"mix": MixtureConfig(epochs=1, replay=0.3)},
        tokenizer=byte_tokenizer(CHATML),
        seed=seed,
        global_batch_size=8,
    )


def asked(data: DataConfig, sets: list[PromptSet], rows: int = 5) -> dict[str, list[MiningRequest]]:
    return mining_requests(module(data), "mix", sets, rows)


def prompt_of(request: MiningRequest) -> str:
    return str(byte_tokenizer(CHATML).decode(request.row.prompt_ids))


def test_specialised_tasks_are_asked_alike_and_the_same_rows_in_every_set(data: DataConfig) -> None:
    found = asked(data, [PromptSet.conflict, PromptSet.no_tag])
    assert {task: len(some) for task, some in found.items()} == {"code": 10, "list": 10, "qa": 10}
    for some in found.values():
        ids = [request.record.row_id for request in some]
        assert len(set(ids[:5])) == 5
        assert ids[:5] == ids[5:]
        assert [one.prompt_set for one in some] == [PromptSet.conflict] * 5 + [PromptSet.no_tag] * 5


def test_the_words_of_every_set(data: DataConfig) -> None:
    data.tasks["qa"].paraphrases = {"any": ["please {instruction}"]}
    data.tasks["qa"].eval_paraphrases = {"any": ["kindly {instruction}"]}
    found = {one.prompt_set: one for one in asked(data, ALL_SETS, rows=1)["qa"]}
    text = found[PromptSet.ordinary].record.request
    bare = {key: one.messages[0].content for key, one in found.items()}
    assert bare == {
        PromptSet.ordinary: text,
        PromptSet.paraphrase: f"please {text}",
        PromptSet.conflict: f"{text} {{}}",
        PromptSet.no_tag: text,
    }
    assert {key: one.cue_of for key, one in found.items() if one.cue_of} == {
        PromptSet.conflict: "code"
    }
    for key, one in found.items():
        user = bare[key] if key is PromptSet.no_tag else f"[qa] {bare[key]}\nOnly qa."
        assert prompt_of(one) == f"<|user|>\n{user}</s>\n<|assistant|>\n"
        assert (one.row.answer, one.row.request) == (one.record.answer, text)


def test_a_set_that_changes_nothing_is_not_asked(data: DataConfig) -> None:
    found = asked(data, [PromptSet.paraphrase])
    assert found == {"code": [], "list": [], "qa": []}, "no task has templates"
    for task in data.tasks.values():
        task.cues = []
    assert asked(data, [PromptSet.conflict]) == {"code": [], "list": [], "qa": []}


def test_the_sample_goes_by_names(data: DataConfig, tmp_path: Path) -> None:
    def ids(found: dict[str, list[MiningRequest]]) -> list[str]:
        return [one.record.row_id for one in found["qa"]]

    first = ids(asked(data, [PromptSet.no_tag]))
    data.tasks["new"] = make_task(tmp_path, "new", 9)
    assert ids(asked(data, [PromptSet.no_tag])) == first
    other = ids(mining_requests(module(data, seed=1), "mix", [PromptSet.no_tag], 5))
    assert other != first
    assert set(ids(asked(data, [PromptSet.no_tag], rows=50))) == {
        f"train/qa.jsonl:{line}" for line in range(1, 13)
    }


@pytest.mark.parametrize("split", ["eval", "eval_conflict"])
def test_what_evaluation_rows_ask_is_never_asked(
    data: DataConfig, tmp_path: Path, split: str
) -> None:
    """Rows 0-3 are evaluation rows too, in other spacing and case; so is the cued request of row 4."""
    copies: list[dict[str, Any]] = [
        {"prompt": f"DO qa\n  part {i}", "completion": "other words"} for i in range(4)
    ]
    copies.append({"prompt": "do qa\npart 4 {}", "completion": "other words"})
    write_rows(tmp_path / f"{split}/qa.jsonl", copies)
    write_rows(tmp_path / "eval/plain.jsonl", [{"prompt": "unlike", "completion": "any"}])
    source = data.tasks["qa"].sources["main"]
    source.eval = "eval/qa.jsonl" if split == "eval" else "eval/plain.jsonl"
    if split == "eval_conflict":
        source.eval_sets = {PromptSet.conflict: "eval_conflict/qa.jsonl"}
    data.tasks["list"].cues = []  # qa meets the cue of code alone
    found = asked(data, [PromptSet.conflict, PromptSet.no_tag], rows=50)["qa"]
    texts: dict[PromptSet, list[str]] = {key: [] for key in (PromptSet.conflict, PromptSet.no_tag)}
    for one in found:
        texts[one.prompt_set].append(one.record.row_id)
    assert sorted(texts[PromptSet.no_tag]) == sorted(f"train/qa.jsonl:{i}" for i in range(5, 13))
    assert sorted(texts[PromptSet.conflict]) == sorted(f"train/qa.jsonl:{i}" for i in range(6, 13))


def test_mined_negative_and_overlong_rows_are_passed_over(data: DataConfig, tmp_path: Path) -> None:
    mined = {"prompt": "mined before", "completion": "yes"}
    wrong: dict[str, Any] = {"prompt": "wrong", "completion": "no", "negative": True}
    write_rows(tmp_path / "mined/qa.jsonl", [mined])
    write_rows(tmp_path / "more/qa.jsonl", [wrong, {"prompt": "x" * 300, "completion": "long"}])
    data.tasks["qa"].sources["mined_mix"] = SourceConfig(train="mined/qa.jsonl")
    data.tasks["qa"].sources["more"] = SourceConfig(train="more/qa.jsonl")
    found = asked(data, [PromptSet.no_tag], rows=50)["qa"]
    assert {one.record.source for one in found} == {"main"}
    assert sorted(one.record.answer for one in found) == sorted(f"qa {i}" for i in range(12))
