"""The four prompt sets: which rows, in which words, of which tasks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from data_modules.chat import ChatFormat
from data_modules.config import (
    BoundaryConfig,
    CleaningConfig,
    DataConfig,
    PromptSet,
    SourceConfig,
    TaskConfig,
    Unification,
)
from data_modules.evaluation_rows import EvalRow, read_eval_rows
from data_modules.faults import DataFault
from data_modules.mixture import MixtureConfig
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prompt_sets import available
from tests.shared_data import CHATML, byte_tokenizer, data_config, write_rows

TOKENIZER = byte_tokenizer(CHATML)
CHAT = ChatFormat(TOKENIZER, None)
FRAMES = ["Now: {instruction}", "{instruction} Go."]
TAGGED = BoundaryConfig()


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    """``sums`` has cues and held-out words, ``own`` brings its sets, ``chat`` is general."""

    def rows(task: str, more: str = "") -> list[dict[str, str]]:
        return [
            {"instruction": f"{task} number {n}{more}", "input": f"in {n}", "output": f"out {n} "}
            for n in range(6)
        ]

    tasks = {}
    for name in ("sums", "own", "chat"):
        write_rows(tmp_path / f"train/{name}.jsonl", rows(name))
        write_rows(tmp_path / f"eval/{name}.jsonl", rows(name, " please"))
        source = SourceConfig(train=f"train/{name}.jsonl", eval=f"eval/{name}.jsonl")
        tasks[name] = TaskConfig({"main": source}, tag=f"[{name}]", constraint=f"As {name}.")
    for kind in ("paraphrase", "conflict"):
        write_rows(tmp_path / f"eval_{kind}/own.jsonl", rows("own", f" {kind}"))
        source = tasks["own"].sources["main"]
        source.eval_sets[PromptSet[kind]] = f"eval_{kind}/own.jsonl"
    tasks["own"].cues = ["\nFrom own."]
    tasks["sums"].cues = [" ?"]
    tasks["sums"].eval_paraphrases = {"any": FRAMES}
    tasks["sums"].paraphrases = {"any": ["Trained: {instruction}"]}
    tasks["chat"] = replace(tasks["chat"], tag="", constraint="", general=True)
    return data_config(tmp_path, tasks)


def rows_of(
    data: DataConfig,
    prompt_set: PromptSet,
    limit: int | None = None,
    boundary: BoundaryConfig = TAGGED,
) -> dict[str, list[EvalRow]]:
    rows, rejects = read_eval_rows(data, boundary, CHAT, limit, prompt_set)
    assert rejects == []
    return rows


def user_turn(row: EvalRow) -> str:
    """What the user said, out of the prompt's tokens."""
    text = TOKENIZER.decode(row.prompt_ids)
    assert text.startswith("<|user|>\n")
    assert text.endswith("</s>\n<|assistant|>\n")
    return str(text.removeprefix("<|user|>\n").removesuffix("</s>\n<|assistant|>\n"))


def test_ordinary_rows_have_tag_and_constraint_in_the_prompt_alone(data: DataConfig) -> None:
    rows = rows_of(data, PromptSet.ordinary)
    assert {task: len(some) for task, some in rows.items()} == {"sums": 6, "own": 6, "chat": 6}
    third = rows["sums"][2]
    assert user_turn(third) == "[sums] sums number 2 please\nin 2\nAs sums."
    assert third.request == "sums number 2 please\nin 2"
    assert third.origin == "eval/sums.jsonl:3"
    assert user_turn(rows["chat"][0]) == rows["chat"][0].request == "chat number 0 please\nin 0"


def test_without_tag_nothing_else_changes(data: DataConfig) -> None:
    ordinary, bare = rows_of(data, PromptSet.ordinary), rows_of(data, PromptSet.no_tag)
    untagged = rows_of(data, PromptSet.ordinary, boundary=BoundaryConfig(False, False))
    assert [row.prompt_ids for row in bare["sums"]] == [r.prompt_ids for r in untagged["sums"]]
    for row, other in zip(bare["sums"], ordinary["sums"], strict=True):
        assert user_turn(row) == row.request == other.request
        assert row.answer == other.answer


def test_a_made_paraphrase_is_in_held_out_words(data: DataConfig) -> None:
    rows = rows_of(data, PromptSet.paraphrase)["sums"]
    wanted = [
        {frame.replace("{instruction}", f"sums number {n} please") for frame in FRAMES}
        for n in range(6)
    ]
    for n, row in enumerate(rows):
        assert row.request.removesuffix(f"\nin {n}") in wanted[n]
        assert user_turn(row) == f"[sums] {row.request}\nAs sums."
    assert len({row.request.startswith("Now: ") for row in rows}) == 2, "both frames are drawn"


def test_a_made_conflict_is_the_paraphrase_with_another_tasks_cue(data: DataConfig) -> None:
    paraphrased = rows_of(data, PromptSet.paraphrase)["sums"]
    rows = rows_of(data, PromptSet.conflict)
    for n, row in enumerate(rows["sums"]):
        request, cue = row.request.removesuffix("\nFrom own."), "\nFrom own."
        assert row.request == request + cue
        assert request.endswith(f"\nin {n}")
        assert any(frame.split("{")[0] in request for frame in FRAMES)
        assert user_turn(row) == f"[sums] {row.request}\nAs sums."
    assert [row.answer for row in rows["sums"]] == [row.answer for row in paraphrased]


def test_general_tasks_are_asked_with_cues_too(data: DataConfig) -> None:
    rows = rows_of(data, PromptSet.conflict)["chat"]
    cues = {
        row.request.removeprefix(f"chat number {n} please\nin {n}") for n, row in enumerate(rows)
    }
    assert cues == {" ?", "\nFrom own."}


@pytest.mark.parametrize("kind", ["paraphrase", "conflict"])
def test_rows_that_a_source_brings_are_taken_as_they_are(data: DataConfig, kind: str) -> None:
    rows = rows_of(data, PromptSet[kind])["own"]
    assert [row.request for row in rows] == [f"own number {n} {kind}\nin {n}" for n in range(6)]
    assert rows[0].origin == f"eval_{kind}/own.jsonl:1"
    assert user_turn(rows[0]) == f"[own] own number 0 {kind}\nin 0\nAs own."


def test_tasks_are_left_out_for_a_reason(data: DataConfig) -> None:
    assert set(rows_of(data, PromptSet.paraphrase)) == {"sums", "own"}
    assert available(data, "chat", PromptSet.paraphrase) == (
        "it has neither eval_sets.paraphrase nor eval_paraphrases"
    )
    assert available(data, "own", PromptSet.paraphrase) == ""
    # a cue that reads like one's own is no conflict
    data.tasks["own"].cues = ["\nReally ?"]
    assert set(rows_of(data, PromptSet.conflict)) == {"own", "chat"}
    assert available(data, "sums", PromptSet.conflict) == (
        "it has no eval_sets.conflict, and no other task has cues unlike its own"
    )
    for prompt_set in (PromptSet.ordinary, PromptSet.no_tag):
        assert not any(available(data, task, prompt_set) for task in data.tasks)


def test_a_row_that_no_template_fits_is_left_out_and_named(data: DataConfig) -> None:
    data.tasks["sums"].eval_paraphrases = {"zh": ["请问：{instruction}"]}
    rows, rejects = read_eval_rows(data, TAGGED, CHAT, None, PromptSet.paraphrase)
    assert rows["sums"] == []
    assert [(one.origin, one.rule) for one in rejects] == [
        (f"eval/sums.jsonl:{line}", "not_worded") for line in range(1, 7)
    ]


def test_sets_are_one_fixed_paper_whatever_the_other_tasks(data: DataConfig) -> None:
    first = rows_of(data, PromptSet.paraphrase)["sums"]
    del data.tasks["own"]
    again = rows_of(data, PromptSet.paraphrase)["sums"]
    assert [row.prompt_ids for row in first] == [row.prompt_ids for row in again]


def test_the_limit_takes_the_first_that_fit(data: DataConfig) -> None:
    everything = rows_of(data, PromptSet.ordinary)["sums"]
    assert [row.origin for row in rows_of(data, PromptSet.ordinary, 4)["sums"]] == [
        row.origin for row in everything[:4]
    ]
    lengths = [len(row.input_ids) for row in everything]
    assert len(set(lengths)) == 1
    write_rows(
        Path(data.root) / "eval/sums.jsonl",
        [{"instruction": "x" * 300, "output": "y"}, {"instruction": "z", "output": "y"}],
    )
    rows, rejects = read_eval_rows(data, TAGGED, CHAT, 1, PromptSet.ordinary)
    assert [row.origin for row in rows["sums"]] == ["eval/sums.jsonl:2"]
    assert [(one.origin, one.rule) for one in rejects] == [("eval/sums.jsonl:1", "overlong")]


def test_gold_is_in_the_tasks_format_where_training_is(data: DataConfig) -> None:
    data.tasks["sums"].unify = [Unification.whitespace]
    assert rows_of(data, PromptSet.ordinary)["sums"][1].answer == "out 1 "
    data.cleaning = CleaningConfig(unify=True)
    assert rows_of(data, PromptSet.ordinary)["sums"][1].answer == "out 1"


def test_evaluation_asks_in_the_ids_of_training(data: DataConfig) -> None:
    """The same rows in train/ and eval/: the samples are the evaluation's rows, id by id."""
    for task in data.tasks:
        text = (Path(data.root) / f"eval/{task}.jsonl").read_text(encoding="utf-8")
        (Path(data.root) / f"train/{task}.jsonl").write_text(text, encoding="utf-8")
    mixture = MixtureConfig(epochs=1, replay=0.3)
    module = PhaseDataModule(data, TAGGED, {"mix": mixture}, TOKENIZER, 0, 4)
    module.prepare()
    store = module.store("mix")
    asked, _ = module.eval_rows("mix", None)
    for number, task in enumerate(store.tasks):
        samples = [store.tokens(row) for row in range(len(store)) if store.task_ids[row] == number]
        assert len(samples) == 6
        for (ids, mask), row in zip(samples, asked[task], strict=True):
            assert list(ids) == row.input_ids
            assert list(mask) == list(row.supervised)
            assert row.input_ids[: len(row.prompt_ids)] == row.prompt_ids
            assert not row.supervised[: len(row.prompt_ids)].any()


def test_a_bad_file_of_a_set_shows_before_training(data: DataConfig) -> None:
    (Path(data.root) / "eval_conflict/own.jsonl").write_text("no json\n", encoding="utf-8")
    (Path(data.root) / "eval_paraphrase/own.jsonl").unlink()
    module = PhaseDataModule(data, TAGGED, {"mix": MixtureConfig(epochs=1)}, TOKENIZER, 0, 4)
    with pytest.raises(DataFault) as missing:
        module.prepare()
    assert missing.value.faults[0].where == "data.tasks.own.sources.main.eval_sets.paraphrase"
    write_rows(Path(data.root) / "eval_paraphrase/own.jsonl", [{"instruction": "a", "output": "b"}])
    with pytest.raises(DataFault) as damaged:
        module.prepare()
    assert damaged.value.faults[0].where == "eval_conflict/own.jsonl:1"


def test_training_rows_are_compared_with_every_set(data: DataConfig) -> None:
    rows = [
        {"instruction": f"own number {n} conflict", "input": f"in {n}", "output": "o"}
        for n in (0, 9)
    ]
    write_rows(Path(data.root) / "train/own.jsonl", rows)
    data.cleaning = CleaningConfig(contamination=True, max_drop_ratio=1)
    module = PhaseDataModule(data, TAGGED, {"mix": MixtureConfig(epochs=1)}, TOKENIZER, 0, 4)
    module.prepare()
    assert module.rejects("mix") == {"own": {"contamination": 1}}
