"""Records to samples: what is too long or has nothing to train on, and when the cache is stale."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from data_modules.tokenise import NO_BOUNDARY, store_fingerprint, tokenise

from data_modules.chat import ChatFormat
from data_modules.config import BoundaryConfig, DataConfig, Overlong, SourceConfig, TaskConfig
from data_modules.faults import DataFault
from data_modules.records import Message, Record
from data_modules.samples import SampleStore
from tests.shared_data import CHATML, byte_tokenizer, data_config, write_rows, write_task

# Bytes of "<|user|>\n" + "</s>\n" + "<|assistant|>\n" as tokens: 9 + 2 + 14; "</s>" is one token.
FRAME = 25


def record(prompt: str, answer: str, line: int = 1) -> Record:
    return Record("qa", (Message("user", prompt), Message("assistant", answer)), f"qa.jsonl:{line}")


def run(
    records: list[Record], max_seq_len: int, overlong: Overlong, template: str = CHATML
) -> tuple[SampleStore, list[tuple[str, str, str]]]:
    data = DataConfig(tasks={"qa": TaskConfig()}, max_seq_len=max_seq_len, overlong=overlong)
    chat = ChatFormat(byte_tokenizer(template))
    store, rejects = tokenise(("qa",), {"qa": records}, data, NO_BOUNDARY, chat)
    return store, [(one.origin, one.rule, one.reason) for one in rejects]


def test_a_sample_of_exactly_the_limit_stays() -> None:
    length = FRAME + 4 + 3 + 2  # prompt "abcd", answer "xyz", its end token and the line break
    store, rejects = run([record("abcd", "xyz")], length, Overlong.drop)
    assert store.lengths.tolist() == [length]
    assert store.answer_tokens.tolist() == [4]
    assert rejects == []


def test_one_token_more_is_dropped_with_its_length() -> None:
    rows = [record("abcd", "xyz", 7), record("a", "x", 8)]
    store, rejects = run(rows, 33, Overlong.drop)
    assert store.lengths.tolist() == [29]
    assert rejects == [("qa.jsonl:7", "overlong", "34 tokens, data.max_seq_len is 33")]


def test_truncation_cuts_the_end_only() -> None:
    whole, _ = run([record("abcd", "wxyz")], 100, Overlong.drop)
    store, rejects = run([record("abcd", "wxyz")], 31, Overlong.truncate)
    assert rejects == [("qa.jsonl:1", "truncated", "35 tokens cut to 31")]
    assert store.input_ids.tolist() == whole.input_ids[:31].tolist()
    assert store.supervised.tolist() == whole.supervised[:31].tolist()
    assert store.answer_tokens.tolist() == [2]


@pytest.mark.parametrize(("limit", "kept"), [(29, 0), (30, 1)])
def test_truncation_that_leaves_no_answer_is_refused(limit: int, kept: int) -> None:
    store, rejects = run([record("abcd", "wxyz")], limit, Overlong.truncate)
    assert len(store) == kept
    rules = [
        ("qa.jsonl:1", "all_masked", "no token to train on in the first 29 of 35 tokens"),
        ("qa.jsonl:1", "truncated", "35 tokens cut to 30"),
    ]
    assert rejects == [rules[kept]]


def test_every_record_is_a_sample_or_a_reject() -> None:
    rows = [record("p" * n, "a", n) for n in range(1, 60)]
    store, rejects = run(rows, 60, Overlong.drop)
    assert (len(store), len(rejects)) == (32, 27)
    assert {rule for _, rule, _ in rejects} == {"overlong"}
    assert [origin for origin, _, _ in rejects] == [f"qa.jsonl:{n}" for n in range(33, 60)]


def test_task_ids_point_into_all_tasks_and_boundaries_are_the_tasks_own(tmp_path: Path) -> None:
    names = ("code", "math", "qa")
    data = data_config(tmp_path, {name: TaskConfig(tag=f"[{name}]") for name in names})
    chat = ChatFormat(byte_tokenizer(CHATML))
    rows = {"qa": [record("p", "a")], "code": [record("p", "a"), record("p", "a")]}
    store, _ = tokenise(names, rows, data, BoundaryConfig(), chat)
    assert store.tasks == names
    assert store.task_ids.tolist() == [0, 0, 2]
    assert chat.tokenizer.decode(store.tokens(2)[0]).startswith("<|user|>\n[qa] p</s>")


def test_a_template_fault_names_the_row() -> None:
    rewriting = "{% for m in messages %}{{ messages|length }}{{ m['content'] }}{% endfor %}"
    turns = tuple(Message(role, "x") for role in ("user", "assistant") * 2)
    rows = [Record("qa", turns, "qa.jsonl:12")]
    with pytest.raises(DataFault, match=r"data\.chat_template: qa\.jsonl:12: turn 2 is not"):
        run(rows, 100, Overlong.drop, template=rewriting)


@pytest.fixture
def source(tmp_path: Path) -> DataConfig:
    return data_config(
        tmp_path, {name: write_task(tmp_path, name, 3, 1) for name in ("code", "qa")}
    )


def fingerprint(data: DataConfig, tokenizer: Any = None, **changed: Any) -> str:
    arguments: dict[str, Any] = {"trained_tasks": ("code", "qa"), "boundary": BoundaryConfig()}
    tokenizer = tokenizer or byte_tokenizer(CHATML)
    return store_fingerprint(data, tokenizer=tokenizer, **(arguments | changed))


def swap_tags(one: TaskConfig, two: TaskConfig) -> None:
    one.tag, two.tag = two.tag, one.tag


CHANGES: dict[str, Callable[[DataConfig], object]] = {
    "tag": lambda data: setattr(data.tasks["qa"], "tag", "[other]"),
    "constraint": lambda data: setattr(data.tasks["qa"], "constraint", "Other."),
    "max_seq_len": lambda data: setattr(data, "max_seq_len", 255),
    "overlong": lambda data: setattr(data, "overlong", Overlong.truncate),
    "file bytes": lambda data: write_rows(Path(data.root) / "train/qa.jsonl", []),
    # Two tasks that swap their tags would otherwise look the same.
    "swapped tags": lambda data: swap_tags(data.tasks["qa"], data.tasks["code"]),
    # Task ids index into all tasks: another task shifts them.
    "new task": lambda data: data.tasks.update(a=TaskConfig()),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_changes_tokens_changes_the_fingerprint(source: DataConfig, name: str) -> None:
    before = fingerprint(source)
    CHANGES[name](source)
    assert fingerprint(source) != before


@pytest.mark.parametrize("other", [BoundaryConfig(tag=False), BoundaryConfig(constraint=False)])
def test_the_boundary_changes_the_fingerprint(source: DataConfig, other: BoundaryConfig) -> None:
    assert fingerprint(source, boundary=other) != fingerprint(source)


def test_the_tokenizer_and_its_template_change_the_fingerprint(source: DataConfig) -> None:
    more = byte_tokenizer(CHATML)
    more.add_tokens(["new"])
    other_end = byte_tokenizer(CHATML)
    other_end.eos_token = "<pad>"
    prints = [
        fingerprint(source, tokenizer)
        for tokenizer in (byte_tokenizer(CHATML), byte_tokenizer(CHATML + " "), more, other_end)
    ]
    assert len(set(prints)) == 4


def test_which_tasks_are_trained_changes_it_even_with_equal_files(source: DataConfig) -> None:
    # Two tasks may read the same file, for example to compare tags; their samples still differ.
    source.tasks["qa"].source = source.tasks["code"].source
    assert fingerprint(source, trained_tasks=("qa",)) != fingerprint(
        source, trained_tasks=("code",)
    )


UNRELATED: dict[str, Callable[[DataConfig], object]] = {
    "packing": lambda data: setattr(data, "packing", False),
    "rows_per_task": lambda data: setattr(data, "rows_per_task", 1),
    "max_reject_ratio": lambda data: setattr(data, "max_reject_ratio", 0.5),
    "cache_dir": lambda data: setattr(data, "cache_dir", "elsewhere"),
    "max_new_tokens": lambda data: setattr(data.tasks["qa"], "max_new_tokens", 5),
    "groups": lambda data: data.groups.update(some=["qa"]),
    "eval bytes": lambda data: write_rows(Path(data.root) / "eval/qa.jsonl", []),
    "file time": lambda data: os.utime(Path(data.root) / "train/qa.jsonl", (1, 1)),
    "order of tasks": lambda data: setattr(data, "tasks", dict(reversed(list(data.tasks.items())))),
}


@pytest.mark.parametrize("name", UNRELATED)
def test_what_leaves_tokens_alone_leaves_the_fingerprint_alone(
    source: DataConfig, name: str
) -> None:
    before = fingerprint(source)
    UNRELATED[name](source)
    assert fingerprint(source) == before


def test_the_place_of_the_files_does_not_matter(source: DataConfig, tmp_path: Path) -> None:
    moved = copy.deepcopy(source)
    for name in moved.tasks:
        old = Path(source.root) / f"train/{name}.jsonl"
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / f"{name}.jsonl").write_bytes(old.read_bytes())
        moved.tasks[name].sources = {"main": SourceConfig(train=f"{name}.jsonl")}
    moved.root = str(tmp_path / "new")
    assert fingerprint(moved) == fingerprint(source)
