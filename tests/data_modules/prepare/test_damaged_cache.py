"""A cache that was damaged is made again where it is noticed in time, and refused where it is not."""

from __future__ import annotations

import errno
import logging
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_modules.config import CleaningConfig, DataConfig
from data_modules.disk import place_fault, written_below
from data_modules.faults import DataFault
from data_modules.phase_data_module import PhaseDataModule
from data_modules.phase_plan import PhasePlan
from data_modules.prepare.clean_rows import clean_rows
from data_modules.samples import SampleStore
from data_modules.sealing import SEAL_FILE
from data_modules.sources.digest import source_digest
from tests.data_modules.prepare.made_data import DUPLICATES, prepared, row, small_pieces, write_data

ROWS = 30


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataConfig:
    """Two tasks whose rows come in several units and parts."""
    small_pieces(monkeypatch, 3_000, 4)
    logging.getLogger("polyphase").propagate = True
    rows = {
        "qa": [row(n % (ROWS - 1)) for n in range(ROWS)],
        "code": [row(n + 99) for n in range(9)],
    }
    return write_data(tmp_path, rows, cleaning=CleaningConfig(**DUPLICATES))


def figures(made: PhaseDataModule) -> list[Any]:
    """All that a run takes from the cache."""
    plan = made.plans["mix"]
    store = plan.store
    return [
        *(getattr(store, name).tolist() for name in ("input_ids", "supervised", "offsets")),
        *(getattr(store, name).tolist() for name in ("task_ids", "row_keys", "token_keys")),
        plan.rows.tolist(),
        made.rejects("mix"),
        made.rejects_file("mix").read_text(encoding="utf-8"),
    ]


def cut(path: Path) -> None:
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])


def flip(path: Path) -> None:
    """Change one byte in the middle."""
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def break_json(path: Path) -> None:
    path.write_text('{"broken": ', encoding="utf-8")


DAMAGES: dict[str, Callable[[Path], object]] = {
    "cut": cut,
    "flipped": flip,
    "gone": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
}
NAMES = [
    *("samples/input_ids.npy", "samples/offsets.npy", "samples/names.json", "samples/stats.json"),
    *("samples/rejects.jsonl", f"samples/{SEAL_FILE}", "plans/rows.npy", "plans/plan.json"),
    *("rows/complete.json", "rows/rejects.jsonl", f"rows/{SEAL_FILE}"),
    *("rows/compared/keep.npy", "rows/compared/counts.json"),
    *("rows/unit_00001/stats.json", "rows/unit_00001/part_000/rows.arrow"),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_entry_is_made_again(
    data: DataConfig, caplog: pytest.LogCaptureFixture, name: str, kind: str
) -> None:
    before = figures(prepared(data))
    first, _, rest = name.partition("/")
    (path,) = Path(data.cache_dir).glob(f"{first}/*/{rest}")
    DAMAGES[kind](path)
    if name == "rows/unit_00001/part_000/rows.arrow" and kind == "flipped":
        # only read when samples are made: sizes are looked at before
        for store in Path(data.cache_dir).glob("samples/*"):
            (store / SEAL_FILE).unlink()
    caplog.clear()
    assert figures(prepared(data)) == before
    if not (name in ("rows/complete.json",) and kind == "gone"):
        assert "is damaged (" in caplog.text
    caplog.clear()
    assert figures(prepared(data)) == before
    assert "damaged" not in caplog.text, "it was mended"


def test_unit_that_is_gone_is_made_again(data: DataConfig) -> None:
    before = figures(prepared(data))
    (unit,) = Path(data.cache_dir).glob("rows/*/unit_00002")
    shutil.rmtree(unit)
    assert figures(prepared(data)) == before
    assert unit.is_dir()


def test_half_made_samples_are_not_taken(data: DataConfig) -> None:
    """Parts of an interrupted tokenising, one of them damaged."""
    before = figures(prepared(data))
    (store,) = Path(data.cache_dir).glob("samples/*")
    work = store.with_name(store.name + ".parts")
    work.mkdir()
    store.rename(work / "part_000000")  # whole by its size, but not this part
    (work / "part_000000" / SEAL_FILE).unlink()
    assert figures(prepared(data)) == before


def test_hash_that_was_cut_short_is_made_again(data: DataConfig) -> None:
    cache = Path(data.cache_dir)
    before = source_digest(data, ["qa"], "train", cache)
    (kept, *_) = (cache / "hashes").iterdir()
    whole = kept.read_text()
    for broken in (b"", whole[:10].encode(), b"\xff" * 64, b"<script>"):
        kept.write_bytes(broken)
        assert source_digest(data, ["qa"], "train", cache) == before
        assert kept.read_text() == whole


LOADED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    # damage behind the check, between preparing and loading: file, damage, what is seen
    "cut array": ("samples/*/input_ids.npy", cut, "input_ids.npy cannot be read"),
    "no array": ("samples/*/signs.npy", Path.unlink, "signs.npy cannot be read"),
    "empty array": (
        "samples/*/signs.npy",
        lambda path: path.write_bytes(b""),
        "signs.npy cannot be read",
    ),
    "another type": (
        "samples/*/task_ids.npy",
        lambda path: np.save(path, np.zeros(38, np.int64)),
        "task_ids.npy holds int64 [38]",
    ),
    "another length": (
        "samples/*/task_ids.npy",
        lambda path: np.save(path, np.zeros(3, np.int32)),
        "task_ids.npy has 3 entries, offsets.npy tells of 38 samples",
    ),
    "objects": (
        "samples/*/task_ids.npy",
        lambda path: np.save(path, np.array([{}, {}]), allow_pickle=True),
        "task_ids.npy cannot be read",
    ),
    "broken names": ("samples/*/names.json", break_json, "names.json cannot be read"),
    "no names": (
        "samples/*/names.json",
        lambda path: path.write_text("{}"),
        "names.json has no list of 'tasks'",
    ),
    "names of another kind": (
        "samples/*/names.json",
        lambda path: path.write_text("[]"),
        "names.json holds list",
    ),
    "cut plan": ("plans/*/rows.npy", cut, "rows.npy cannot be read"),
    "broken plan": ("plans/*/plan.json", break_json, "plan.json cannot be read"),
    "plan of something else": (
        "plans/*/plan.json",
        lambda path: path.write_text('{"store_rows": 38}'),
        "it holds something else than a plan",
    ),
}


@pytest.mark.parametrize("kind", LOADED)
def test_entry_damaged_behind_the_check_is_refused(data: DataConfig, kind: str) -> None:
    pattern, damage, seen = LOADED[kind]
    made = prepared(data)
    (path,) = Path(data.cache_dir).glob(pattern)
    damage(path)
    with pytest.raises(DataFault) as caught:
        PhasePlan.load(made.plan_folder("mix"), SampleStore.load(made.store_folder("mix")))
    (fault,) = caught.value.faults
    assert fault.where == str(path.parent)
    assert fault.seen.startswith(seen)
    assert fault.remedy == f"Delete {path.parent}: it is made again."


def test_rows_damaged_behind_the_check_are_refused(data: DataConfig) -> None:
    cleaned = clean_rows(data, ["qa"])
    (path, *_) = sorted(Path(data.cache_dir).glob("rows/*/unit_*/part_*/rows.arrow"))
    cut(path)
    with pytest.raises(DataFault, match=r"rows.arrow cannot be read"):
        list(cleaned.rows.parts[0].records())


# --- a disk that is full, or refuses


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """No file can grow above ``size`` bytes: writing fails in the middle, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("size", [0, 70, 200, 700, 1_000, 3_000, 5_000])
def test_full_disk_is_said_and_nothing_half_made_is_taken(
    tmp_path: Path, data: DataConfig, size: int
) -> None:
    with files_up_to(size), pytest.raises(DataFault) as caught:
        prepared(data)
    (fault,) = caught.value.faults
    assert fault.where == "data.cache_dir"
    assert fault.seen.startswith(f"no room to write below {data.cache_dir} (")
    assert "Make room, or set data.cache_dir to another disk." in fault.remedy
    left = {path.name for path in Path(data.cache_dir).rglob("*")}
    assert not {name for name in left if ".tmp" in name}, "no scratch is left"
    resumed = figures(prepared(data))
    data.cache_dir = str(tmp_path / "fresh")
    assert resumed == figures(prepared(data))


def test_cache_below_a_file(tmp_path: Path, data: DataConfig) -> None:
    (tmp_path / "file").write_text("")
    data.cache_dir = str(tmp_path / "file" / "cache")
    with pytest.raises(DataFault) as caught:
        prepared(data)
    (fault,) = caught.value.faults
    assert fault.where == "data.cache_dir"
    assert "Not a directory" in fault.seen


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError("4096 requested and 512 written"),
        OSError(errno.EROFS, "Read-only file system", "FOLDER/samples/a"),
        PermissionError(errno.EACCES, "Permission denied", "FOLDER/rows"),
    ],
)
def test_what_the_disk_refuses_is_the_users_fault(tmp_path: Path, error: OSError) -> None:
    if error.filename:
        error.filename = error.filename.replace("FOLDER", str(tmp_path))
    with pytest.raises(DataFault) as caught, written_below("data.cache_dir", tmp_path):
        raise error
    assert caught.value.faults[0].where == "data.cache_dir"


@pytest.mark.parametrize(
    "error", [OSError(errno.EACCES, "Permission denied", "/elsewhere"), OSError("something")]
)
def test_other_errors_stay_what_they_are(tmp_path: Path, error: OSError) -> None:
    with pytest.raises(OSError) as caught, written_below("data.cache_dir", tmp_path):  # noqa: PT011
        raise error
    assert caught.value is error


def test_place_of_an_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "file"
    file.write_text("")
    locked = tmp_path / "locked"
    locked.mkdir()
    assert place_fault("output_dir", tmp_path / "new" / "run") is None
    assert place_fault("output_dir", tmp_path) is None
    found = [place_fault("output_dir", place) for place in (file, file / "run", file / "a" / "b")]
    assert [fault and fault.seen for fault in found] == [
        f"{file} is a file",
        f"{file / 'run'}: {file} is a file",
        f"{file / 'a' / 'b'}: {file} is a file",
    ]
    # root may write anywhere: what the system says is put in its mouth
    monkeypatch.setattr("os.access", lambda path, _: Path(path) != locked)
    fault = place_fault("output_dir", locked / "run")
    assert fault
    assert fault.seen == f"{locked / 'run'}: {locked} is read-only"
    assert place_fault("output_dir", locked / "run", writable=False) is None
    long = place_fault("output_dir", tmp_path / ("x" * 300))
    assert long
    assert "File name too long" in long.seen
