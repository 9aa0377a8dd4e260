"""The same samples and plans whatever the workers and the pieces; other tasks change nothing."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_modules.config import CleaningConfig, DataConfig, NegativeRowsConfig
from data_modules.mixture import (
    BalanceConfig,
    MixtureConfig,
    NegativesConfig,
    Order,
    PromptConfig,
    Strategy,
)
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare import pool
from data_modules.prepare.tokeniser import TokenStats
from data_modules.samples import SampleStore
from tests.data_modules.prepare.made_data import (
    lines_of,
    prepared,
    row,
    small_pieces,
    words,
    write_data,
)
from tests.shared_data import write_rows

ARRAYS = (
    *("input_ids", "supervised", "offsets", "task_ids", "answer_tokens", "signs", "source_ids"),
    *("language_ids", "quality", "row_keys", "request_keys", "token_keys"),
)
CLEANING = CleaningConfig(
    unify=True,
    placeholder=True,
    exact_duplicates=True,
    near_duplicates=0.8,
    across_tasks=True,
    contamination=True,
)
RANDOM = PromptConfig(tag_dropout=0.3, cue_share=0.3, paraphrase_share=0.3)
CAPS = BalanceConfig(Strategy.caps, min_rows=25, max_rows=30)
MIX = MixtureConfig(
    epochs=2,
    prompts=RANDOM,
    balance=CAPS,
    negatives=NegativesConfig(share=0.2),
)


def many_tasks(root: Path) -> DataConfig:
    """Three tasks of every kind of row: copies, wrong answers, several turns, bad ones."""

    def rows(task: int) -> list[dict[str, object]]:
        made = [row(100 * task + n, id=f"{task}-{n}", lang="en") for n in range(40)]
        for n in range(0, 40, 2):
            made[n]["input"] = words(100 * task + n, 4)
        made[3] = made[2] | {"id": f"{task}-copy"}
        made[5] |= {"output": "N/A"}
        made[7] |= {"rejected": "something wrong"}
        made[8] |= {"negative": True}
        made[9] |= {"instruction": "请用中文回答这个问题", "input": f"第{task}个问题是什么"}
        made[10] = row(3)  # in every task
        made[11] |= {"output": "x" * 700}
        return made

    names = ("code", "math", "qa")
    data = write_data(
        root,
        {name: rows(number) for number, name in enumerate(names)},
        {"qa": [row(221, output="other")]},
        CLEANING,
        max_seq_len=400,
        negatives=NegativeRowsConfig(cross_task=0.3, swapped_instruction=0.2),
    )
    for name in names:
        data.tasks[name].cues = [f" {name}?"]
        data.tasks[name].paraphrases = {"any": [f"{name}, please: {{instruction}}"]}
    return data


def same_store(one: SampleStore, other: SampleStore) -> None:
    assert (one.tasks, one.sources, one.languages) == (other.tasks, other.sources, other.languages)
    for name in ARRAYS:
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def result(made: PhaseDataModule) -> tuple[list[dict[str, object]], TokenStats, list[int]]:
    return (
        lines_of(made.rejects_file("mix")),
        made.token_stats("mix"),
        made.plans["mix"].rows.tolist(),
    )


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> PhaseDataModule:
    """In one process and in one piece."""
    made = prepared(many_tasks(tmp_path_factory.mktemp("reference")), {"mix": MIX})
    rules = {rule for rules in made.rejects("mix").values() for rule in rules}
    assert rules == {
        *("placeholder", "exact_duplicate", "contamination", "overlong"),
    }
    assert (np.asarray(made.store("mix").signs) < 0).sum() > 40
    return made


@pytest.mark.parametrize(("unit_bytes", "part_rows"), [(1, 1), (1500, 7), (4000, 1000)])
def test_small_pieces_give_the_same(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reference: PhaseDataModule,
    unit_bytes: int,
    part_rows: int,
) -> None:
    small_pieces(monkeypatch, unit_bytes, part_rows)
    monkeypatch.setattr("data_modules.prepare.tokenise._NEGATIVES_PER_JOB", 5)
    monkeypatch.setattr("data_modules.prepare.tokeniser.BATCH_ROWS", 3)
    made = prepared(many_tasks(tmp_path), {"mix": MIX})
    assert len(made.cleaned.rows.parts) > 5
    same_store(made.store("mix"), reference.store("mix"))
    assert result(made) == result(reference)


def test_workers_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reference: PhaseDataModule
) -> None:
    monkeypatch.setattr("data_modules.prepare.pool.SMALL_BYTES", 0)
    monkeypatch.setattr("data_modules.sources.units.UNIT_BYTES", 4000)
    monkeypatch.setattr("data_modules.prepare.tokenise._NEGATIVES_PER_JOB", 20)
    data = many_tasks(tmp_path)
    data.workers = 2
    pools: list[int] = []

    class Pool(pool.ProcessPoolExecutor):
        def __init__(self, workers: int, *arguments: object, **settings: object) -> None:
            pools.append(workers)
            super().__init__(workers, *arguments, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(pool, "ProcessPoolExecutor", Pool)
    made = prepared(data, {"mix": MIX})
    assert pools == [2, 2], "cleaning and tokenising each had workers"
    same_store(made.store("mix"), reference.store("mix"))
    assert result(made) == result(reference)


def test_a_cache_made_anew_is_the_same(tmp_path: Path) -> None:
    data = many_tasks(tmp_path)
    one = prepared(data, {"mix": MIX})
    before = result(one)
    arrays = {name: np.array(getattr(one.store("mix"), name)) for name in ARRAYS}
    shutil.rmtree(data.cache_dir)
    two = prepared(data, {"mix": MIX})
    assert result(two) == before
    for name in ARRAYS:
        assert np.array_equal(getattr(two.store("mix"), name), arrays[name]), name


# --- other tasks, other seeds


def texts(made: PhaseDataModule, task: str, phase: str = "mix") -> list[tuple[int, ...]]:
    """Samples of a task in file order."""
    store = made.store(phase)
    return [tuple(store.tokens(int(one))[0].tolist()) for one in store.rows_of(task)]


def drawn(made: PhaseDataModule, task: str, phase: str = "mix") -> list[int]:
    """Keys of the task's right rows in the order of the plan."""
    plan, store = made.plans[phase], made.store(phase)
    rows = np.asarray(plan.rows)
    mine = (store.task_ids[rows] == store.tasks.index(task)) & (store.signs[rows] > 0)
    return [int(key) for key in store.row_keys[rows[mine]]]


ORDERS = {
    "mixed": MixtureConfig(epochs=2, prompts=PromptConfig(tag_dropout=0.3, paraphrase_share=0.3)),
    "caps": MixtureConfig(epochs=1.5, balance=CAPS),
    "grouped": MixtureConfig(epochs=2, order=Order.grouped, block_rows=4),
    "sequential": MixtureConfig(epochs=2, order=Order.sequential),
    "by length": MixtureConfig(epochs=2, order=Order.easy_to_hard),
}


@pytest.mark.parametrize("name", ORDERS)
@pytest.mark.parametrize("added", ["a_first", "z_last"])
def test_a_task_more_changes_no_other_tasks_rows_nor_their_order(
    tmp_path: Path, name: str, added: str
) -> None:
    data = many_tasks(tmp_path)
    # Pairs of tasks are a matter of several: negatives between them, rows that both have.
    data.negatives = NegativeRowsConfig()
    data.cleaning.across_tasks = False
    before = prepared(data, {"mix": ORDERS[name]})
    other = write_data(tmp_path, {added: [row(1000 + n) for n in range(33)]})
    more = replace(data, tasks={added: other.tasks[added]} | data.tasks)
    after = prepared(more, {"mix": ORDERS[name]})
    assert len(drawn(after, added)) > 20
    for task in ("code", "math", "qa"):
        assert texts(after, task) == texts(before, task)
        assert drawn(after, task) == drawn(before, task)
        assert len(drawn(before, task)) > 20


def test_rows_added_to_one_task_leave_the_others_alone(tmp_path: Path) -> None:
    data = many_tasks(tmp_path)
    data.negatives = NegativeRowsConfig()
    mixture = MixtureConfig(epochs=1, prompts=RANDOM)
    before = prepared(data, {"mix": mixture})
    path = tmp_path / "train/math.jsonl"
    text = path.read_text(encoding="utf-8")
    write_rows(path, [row(2000 + n) for n in range(9)])
    path.write_text(text + path.read_text(encoding="utf-8"), encoding="utf-8")
    after = prepared(data, {"mix": mixture})
    assert len(texts(after, "math")) == len(texts(before, "math")) + 9
    for task in ("code", "qa"):
        assert texts(after, task) == texts(before, task)
        assert drawn(after, task) == drawn(before, task)


def test_another_seed_changes_draws_order_wording_and_negatives(tmp_path: Path) -> None:
    data = many_tasks(tmp_path)
    one, two = prepared(data, {"mix": MIX}), prepared(data, {"mix": MIX}, seed=1)
    for task in ("code", "math", "qa"):
        assert texts(one, task) != texts(two, task)
        assert len(texts(one, task)) == len(texts(two, task))
        assert drawn(one, task) != drawn(two, task)
    assert one.plans["mix"].fingerprint() != two.plans["mix"].fingerprint()

    def pairs(made: PhaseDataModule) -> set[int]:
        store = made.store("mix")
        return {int(key) for key in store.row_keys[np.asarray(store.signs) < 0]}

    assert pairs(one) != pairs(two)


def test_the_same_seed_gives_the_same_elsewhere(tmp_path: Path) -> None:
    # Another folder, another cache; nothing but files and settings counts.
    one = prepared(many_tasks(tmp_path / "one"), {"mix": MIX})
    two = prepared(many_tasks(tmp_path / "two"), {"mix": MIX})
    same_store(one.store("mix"), two.store("mix"))
    assert one.store_folder("mix").name == two.store_folder("mix").name
    assert one.plans["mix"].rows.tolist() == two.plans["mix"].rows.tolist()
