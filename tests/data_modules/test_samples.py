"""The sample store: flat arrays, memory-mapped, written once whoever writes."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from data_modules.samples import SampleStore
from tests.shared_data import made_store

ARRAYS = ("input_ids", "supervised", "offsets", "task_ids", "answer_tokens")


def small() -> SampleStore:
    return SampleStore.build(
        ("code", "qa"),
        [
            (1, [5, 6, 7], np.array([False, True, True])),
            (0, [8, 9], np.array([False, True])),
            (1, [1, 2, 3, 4], np.array([False, True, False, True])),
        ],
    )


def test_arrays_and_their_types() -> None:
    store = small()
    assert len(store) == 3
    assert store.input_ids.tolist() == [5, 6, 7, 8, 9, 1, 2, 3, 4]
    assert store.offsets.tolist() == [0, 3, 5, 9]
    assert store.lengths.tolist() == [3, 2, 4]
    assert store.task_ids.tolist() == [1, 0, 1]
    assert store.answer_tokens.tolist() == [2, 1, 2]
    dtypes = {name: getattr(store, name).dtype for name in ARRAYS}
    assert dtypes == {
        "input_ids": np.int32,
        "supervised": np.bool_,
        "offsets": np.int64,
        "task_ids": np.int32,
        "answer_tokens": np.int32,
    }


def test_samples_come_back_one_by_one() -> None:
    ids, supervised = small().tokens(2)
    assert (ids.tolist(), supervised.tolist()) == ([1, 2, 3, 4], [False, True, False, True])


def test_rows_of_a_task_keep_file_order() -> None:
    assert small().rows_of("qa").tolist() == [0, 2]
    assert small().rows_of("code").tolist() == [1]
    with pytest.raises(ValueError, match="not in tuple"):
        small().rows_of("math")


@pytest.mark.parametrize(
    ("mask", "rule"),
    [([True, True], "opens with its prompt"), ([False, False], "without a supervised token")],
)
def test_a_sample_opens_with_its_prompt_and_has_an_answer(mask: list[bool], rule: str) -> None:
    # A supervised first token would be predicted by the sample packed before it.
    with pytest.raises(AssertionError, match=rule):
        SampleStore.build(("qa",), [(0, [1, 2], np.array(mask))])


@pytest.mark.parametrize("store", [small(), SampleStore.build(("qa",), [])])
def test_saved_and_loaded_is_the_same_and_mapped(store: SampleStore, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "store"
    store.save(folder)
    loaded = SampleStore.load(folder)
    assert loaded.tasks == store.tasks
    for name in ARRAYS:
        array = getattr(loaded, name)
        assert isinstance(array, np.memmap), f"{name} would be read into memory"
        assert array.dtype == getattr(store, name).dtype
        assert array.tolist() == getattr(store, name).tolist()
    assert not loaded.input_ids.flags.writeable


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
    assert json.loads((folder / "tasks.json").read_text()) == ["qa"]
    assert SampleStore.load(folder).input_ids.tolist() == store.input_ids.tolist()


def test_a_save_that_cannot_succeed_says_so(tmp_path: Path) -> None:
    # A plain file in the folder's place is not "another process was first".
    (tmp_path / "store").write_text("in the way")
    with pytest.raises(OSError, match="store"):
        small().save(tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
