"""The sample store: flat arrays, memory-mapped, written once whoever writes, joined from parts."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from data_modules.samples import Sample, SampleStore, join_stores, key_of, scratch_beside
from tests.shared_data import made_store

TYPES = {
    "input_ids": np.int32,
    "supervised": np.bool_,
    "offsets": np.int64,
    "task_ids": np.int32,
    "answer_tokens": np.int32,
    "signs": np.int8,
    "source_ids": np.int16,
    "language_ids": np.int16,
    "quality": np.float32,
    "row_keys": np.uint64,
    "request_keys": np.uint64,
    "token_keys": np.uint64,
}
NAMES = ("tasks", "sources", "languages")
TASKS = ("code", "qa")


def mask(*values: int) -> np.ndarray:
    return np.array(values, dtype=bool)


SAMPLES = [
    Sample("qa", [5, 6, 7], mask(0, 1, 1), 1, "main", "zh", 0.5, 11, 21),
    Sample("code", [8, 9], mask(0, 1), 1, "main", "en", 1.0, 2**64 - 1, 22),
    Sample("qa", [1, 2, 3, 4], mask(0, 1, 0, 1), -1, "web", "zh", 0.25, 13, 21),
]


def small() -> SampleStore:
    return SampleStore.build(TASKS, SAMPLES)


def same(one: SampleStore, other: SampleStore) -> None:
    assert {name: getattr(one, name) for name in NAMES} == {
        name: getattr(other, name) for name in NAMES
    }
    for name, dtype in TYPES.items():
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype == dtype, name
        assert a.tolist() == b.tolist(), name


def test_arrays_and_their_types() -> None:
    store = small()
    assert len(store) == 3
    assert store.input_ids.tolist() == [5, 6, 7, 8, 9, 1, 2, 3, 4]
    assert store.offsets.tolist() == [0, 3, 5, 9]
    assert store.lengths.tolist() == [3, 2, 4]
    assert store.lengths_of(np.array([2, 0])).tolist() == [4, 3]
    assert store.task_ids.tolist() == [1, 0, 1]
    assert store.answer_tokens.tolist() == [2, 1, 2]
    assert store.signs.tolist() == [1, 1, -1]
    assert (store.sources, store.source_ids.tolist()) == (
        ("qa/main", "code/main", "qa/web"),
        [0, 1, 2],
    )
    assert (store.languages, store.language_ids.tolist()) == (("zh", "en"), [0, 1, 0])
    assert store.quality.tolist() == [0.5, 1.0, 0.25]
    assert store.row_keys.tolist() == [11, 2**64 - 1, 13]
    assert store.request_keys.tolist() == [21, 22, 21]
    assert {name: getattr(store, name).dtype for name in TYPES} == TYPES


def test_token_keys_tell_tokens_and_masks_apart() -> None:
    def key(ids: Sequence[int], *supervised: int) -> int:
        store = SampleStore.build(TASKS, [Sample("qa", ids, mask(*supervised), row_key=len(ids))])
        return int(store.token_keys[0])

    keys = [key([1, 2, 3], 0, 1, 1), key([1, 2, 3], 0, 0, 1), key([1, 2, 4], 0, 1, 1)]
    assert len(set(keys)) == 3
    assert key([1, 2, 3], 0, 1, 1) == keys[0]
    # what is no token changes nothing
    other = Sample("code", [1, 2, 3], mask(0, 1, 1), -1, "web", "zh", 0.1, 5, 6)
    assert SampleStore.build(TASKS, [other]).token_keys[0] == keys[0]


def test_keys_of_texts_do_not_run_together() -> None:
    assert key_of("ab", "c") != key_of("a", "bc")
    assert key_of("a", "") != key_of("a")
    # The same on every machine: caches are shared.
    assert key_of("qa", "row-1") == 0x7EA27E3AAA0F8369


def test_samples_come_back_one_by_one() -> None:
    ids, supervised = small().tokens(2)
    assert (ids.tolist(), supervised.tolist()) == ([1, 2, 3, 4], [False, True, False, True])


def test_rows_of_a_task_keep_file_order_and_signs_apart() -> None:
    store = SampleStore.build(TASKS, [*SAMPLES, SAMPLES[0]])
    assert store.rows_of("qa").tolist() == [0, 3]
    assert store.rows_of("qa", sign=-1).tolist() == [2]
    assert store.rows_of("code").tolist() == [1]
    assert store.rows_of("code", sign=-1).tolist() == []
    with pytest.raises(ValueError, match="not in tuple"):
        store.rows_of("math")


@pytest.mark.parametrize(
    ("supervised", "rule"),
    [((1, 1), "opens with its prompt"), ((0, 0), "without a supervised token")],
)
def test_a_sample_opens_with_its_prompt_and_has_an_answer(
    supervised: tuple[int, int], rule: str
) -> None:
    # A supervised first token would be predicted by the sample packed before it.
    with pytest.raises(AssertionError, match=rule):
        SampleStore.build(("qa",), [Sample("qa", [1, 2], mask(*supervised))])


@pytest.mark.parametrize("store", [small(), SampleStore.build(("qa",), [])])
def test_saved_and_loaded_is_the_same_and_mapped(store: SampleStore, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "store"
    store.save(folder)
    loaded = SampleStore.load(folder)
    same(loaded, store)
    for name in TYPES:
        assert isinstance(getattr(loaded, name), np.memmap), f"{name} would be read into memory"
    assert not loaded.input_ids.flags.writeable


@pytest.mark.parametrize(
    "cuts", [(0, 3), (0, 1, 3), (0, 1, 2, 3), (0, 0, 2, 2, 3), (0, 3, 3)], ids=str
)
def test_joined_parts_are_the_store_of_all_samples(cuts: tuple[int, ...], tmp_path: Path) -> None:
    parts = []
    for number, (start, stop) in enumerate(pairwise(cuts)):
        # Every part numbers sources and languages on its own.
        part = tmp_path / f"part{number}"
        SampleStore.build(TASKS, SAMPLES[start:stop]).save(part)
        parts.append(part)
    folder = tmp_path / "joined"
    folder.mkdir()
    join_stores(TASKS, parts, folder)
    same(SampleStore.load(folder), small())


def test_no_parts_join_to_an_empty_store(tmp_path: Path) -> None:
    join_stores(TASKS, [], tmp_path)
    store = SampleStore.load(tmp_path)
    assert (len(store), store.offsets.tolist(), store.tasks) == (0, [0], TASKS)
    assert store.rows_of("qa").tolist() == []


def test_the_first_complete_copy_wins(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    small().save(folder)
    made_store({"qa": [3]}).save(folder)
    assert len(SampleStore.load(folder)) == 3
    assert list(tmp_path.iterdir()) == [folder], "the loser leaves no scratch folder"


def test_many_writers_leave_one_whole_store(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    store = made_store({"qa": [40] * 200})
    start = threading.Barrier(8)
    faults: list[BaseException] = []

    def write() -> None:
        try:
            start.wait()
            store.save(folder)
            # Whoever returns from save can read a complete store at once.
            assert SampleStore.load(folder).offsets[-1] == 8000
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    assert list(tmp_path.iterdir()) == [folder]
    assert json.loads((folder / "names.json").read_text())["tasks"] == ["qa"]
    assert SampleStore.load(folder).input_ids.tolist() == store.input_ids.tolist()


def test_a_save_that_cannot_succeed_says_so(tmp_path: Path) -> None:
    # A plain file in the folder's place is not "another process was first".
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(OSError, match="store"):
        small().save(tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_what_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> None:
        with scratch_beside(tmp_path / "store") as scratch:
            (scratch / "half").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert list(tmp_path.iterdir()) == []


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    small().save(tmp_path / "store")
    assert (tmp_path / "store").stat().st_mode & 0o777 == 0o755
