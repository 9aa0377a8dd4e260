"""Records to samples: what is too long or has nothing to train on, and what each sample carries."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from data_modules.chat import ChatFormat
from data_modules.config import BoundaryConfig, DataConfig, Overlong, TaskConfig
from data_modules.faults import DataFault
from data_modules.mixture import PromptConfig
from data_modules.prepare import tokeniser
from data_modules.prepare.tokeniser import Tokeniser, TokenStats, Wording
from data_modules.records import Message, Record, Reject
from data_modules.samples import SampleStore, key_of
from data_modules.wording import NO_BOUNDARY
from tests.shared_data import CHATML, byte_tokenizer

# Bytes of "<|user|>\n" + "</s>\n" + "<|assistant|>\n" as tokens: 9 + 2 + 14; "</s>" is one token.
FRAME = 25


def record(prompt: str, answer: str, line: int = 1, task: str = "qa") -> Record:
    turns = (Message("user", prompt), Message("assistant", answer))
    return Record(task, turns, f"qa.jsonl:{line}", f"qa.jsonl:{line}")


def run(
    records: list[Record],
    max_seq_len: int,
    overlong: Overlong,
    template: str = CHATML,
    boundary: BoundaryConfig = NO_BOUNDARY,
    tasks: tuple[str, ...] = ("qa",),
) -> tuple[SampleStore, list[tuple[str, str, str]], TokenStats]:
    data = DataConfig(
        tasks={task: TaskConfig(tag=f"[{task}]") for task in tasks},
        max_seq_len=max_seq_len,
        overlong=overlong,
    )
    made = Tokeniser(
        data,
        Wording("mix", boundary, PromptConfig(), 0),
        ChatFormat(byte_tokenizer(template)),
    )
    stats, rejects = TokenStats(), list[Reject]()
    store = SampleStore.build(tasks, made.samples(records, stats, rejects))
    return store, [(one.origin, one.rule, one.reason) for one in rejects], stats


def test_a_sample_of_exactly_the_limit_stays() -> None:
    length = FRAME + 4 + 3 + 2  # prompt "abcd", answer "xyz", its end token and the line break
    store, rejects, stats = run([record("abcd", "xyz")], length, Overlong.drop)
    assert store.lengths.tolist() == [length]
    assert store.answer_tokens.tolist() == [4]
    assert rejects == []
    assert stats.rejects == {}


def test_one_token_more_is_dropped_with_its_length() -> None:
    rows = [record("abcd", "xyz", 7), record("a", "x", 8)]
    store, rejects, stats = run(rows, 33, Overlong.drop)
    assert store.lengths.tolist() == [29]
    assert rejects == [("qa.jsonl:7", "overlong", "34 tokens, data.max_seq_len is 33")]
    assert stats.rejects == {"qa": {"overlong": 1}}
    assert stats.wording.rows == {"qa": 1}, "what gives no sample is not counted as worded"


def test_truncation_cuts_the_end_only() -> None:
    whole, _, _ = run([record("abcd", "wxyz")], 100, Overlong.drop)
    store, rejects, stats = run([record("abcd", "wxyz")], 31, Overlong.truncate)
    assert rejects == [("qa.jsonl:1", "truncated", "35 tokens cut to 31")]
    assert stats.rejects == {"qa": {"truncated": 1}}
    assert stats.wording.rows == {"qa": 1}
    assert store.input_ids.tolist() == whole.input_ids[:31].tolist()
    assert store.supervised.tolist() == whole.supervised[:31].tolist()
    assert store.answer_tokens.tolist() == [2]


@pytest.mark.parametrize(("limit", "kept"), [(29, 0), (30, 1)])
def test_truncation_that_leaves_no_answer_is_refused(limit: int, kept: int) -> None:
    store, rejects, _ = run([record("abcd", "wxyz")], limit, Overlong.truncate)
    assert len(store) == kept
    rules = [
        ("qa.jsonl:1", "all_masked", "no token to train on in the first 29 of 35 tokens"),
        ("qa.jsonl:1", "truncated", "35 tokens cut to 30"),
    ]
    assert rejects == [rules[kept]]


@pytest.mark.parametrize("batch", [1, 7, 1000])
def test_every_record_is_a_sample_or_a_reject(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokeniser, "BATCH_ROWS", batch)
    rows = [record("p" * n, "a", n) for n in range(1, 60)]
    store, rejects, stats = run(rows, 60, Overlong.drop)
    assert store.lengths.tolist() == [FRAME + n + 3 for n in range(1, 33)], "and in order"
    assert {rule for _, rule, _ in rejects} == {"overlong"}
    assert [origin for origin, _, _ in rejects] == [f"qa.jsonl:{n}" for n in range(33, 60)]
    assert stats.rejects == {"qa": {"overlong": 27}}


def test_task_ids_point_into_all_tasks_and_boundaries_are_the_tasks_own() -> None:
    names = ("code", "math", "qa")
    rows = [record("p", "a", 1, "code"), record("p", "a", 2, "code"), record("p", "a", 3, "qa")]
    store, _, _ = run(rows, 100, Overlong.drop, boundary=BoundaryConfig(), tasks=names)
    assert store.tasks == names
    assert store.task_ids.tolist() == [0, 0, 2]
    text = byte_tokenizer(CHATML).decode(store.tokens(2)[0])
    assert text.startswith("<|user|>\n[qa] p</s>")


def test_samples_carry_what_balance_order_and_pairs_go_by() -> None:
    turns = (
        Message("system", "s"),
        Message("user", "u"),
        Message("assistant", "a"),
        Message("user", "v"),
        Message("assistant", "b"),
    )
    whole = Record("qa", turns, "f:1", "id1", source="web", quality=0.25, language="zh")
    store, _, _ = run([whole, record("u", "a", 2)], 200, Overlong.drop)
    assert store.sources == ("qa/web", "qa/main")
    assert store.languages == ("zh", "")
    assert store.quality.tolist() == [0.25, 1.0]
    assert store.row_keys.tolist() == [key_of("qa", "id1"), key_of("qa", "qa.jsonl:2")]
    assert store.request_keys.tolist() == [
        key_of("qa", "s\x1eu\x1ea\x1ev"),
        key_of("qa", "u"),
    ]
    assert store.signs.tolist() == [1, 1]
    # both answers and their end tokens
    assert store.answer_tokens.tolist() == [4, 2]


# Rewrites earlier answers, as several reasoning models' templates do.
REWRITING = (
    "{% for m in messages %}{% if m['role'] == 'user' or loop.last %}{{ m['content'] }}"
    "{% else %}[old]{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("negative", [False, True])
def test_a_template_fault_names_the_row(negative: bool) -> None:
    turns = tuple(Message(role, "x") for role in ("user", "assistant") * 2)
    contrast = "y" if negative else None
    row = Record("qa", turns, "qa.jsonl:12", negative=negative, contrast=contrast)
    rows = [record("p", "a", 11), row]
    with pytest.raises(DataFault, match=r"data\.chat_template: qa\.jsonl:12: turn 4 is not"):
        run(rows, 100, Overlong.drop, template=REWRITING)


def test_only_the_last_answer_of_a_negative_is_wrong() -> None:
    turns = (
        Message("user", "u"),
        Message("assistant", "fine"),
        Message("user", "v"),
        Message("assistant", "abXd"),
    )
    row = Record("qa", turns, "f:1", "id", negative=True, contrast="abcd")
    store, _, _ = run([row], 200, Overlong.drop)
    ids, mask = store.tokens(0)
    assert store.signs.tolist() == [-1]
    assert byte_tokenizer(CHATML).decode(ids[mask]) == "X"
    place = int(np.flatnonzero(mask)[0])
    assert byte_tokenizer(CHATML).decode(ids[:place]).endswith("<|assistant|>\nab")


def test_a_negative_that_says_nothing_wrong_is_refused() -> None:
    turns = (Message("user", "u"), Message("assistant", "ab"))
    row = Record("qa", turns, "f:9", "id", negative=True, contrast="ab")
    store, rejects, stats = run([row], 200, Overlong.drop)
    assert len(store) == 0
    assert [(origin, rule) for origin, rule, _ in rejects] == [("f:9", "all_masked")]
    assert stats.rejects == {"qa": {"all_masked": 1}}


def test_counts_come_back_from_their_file(tmp_path: Path) -> None:
    _, _, stats = run([record("p" * 60, "a"), record("p", "a", 2)], 60, Overlong.drop)
    stats.write(tmp_path / "stats.json")
    assert TokenStats.read(tmp_path / "stats.json") == stats
    twice = TokenStats.read(tmp_path / "stats.json")
    twice.merge(stats)
    assert twice.rejects == {"qa": {"overlong": 2}}
    assert twice.wording.rows == {"qa": 2}
    assert json.loads((tmp_path / "stats.json").read_text())["rejects"] == stats.rejects
