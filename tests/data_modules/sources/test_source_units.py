"""The same rows from every container, and from every way to cut a file into units."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
import lzma
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_modules.config import SourceConfig, TaskConfig
from data_modules.faults import DataFault
from data_modules.sources import read_unit, units, units_of
from data_modules.sources.files import Kind
from data_modules.sources.json_rows import jsonl_rows
from tests.data_modules.sources.source_data import (
    GOOD,
    LINE,
    SINGLE,
    as_messages,
    as_sharegpt,
    bare,
    config,
    conversations,
    read,
    read_file,
    read_records,
)
from tests.shared_data import data_config, write_rows

Rows = list[dict[str, Any]]


def jsonl(rows: Rows) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def write_jsonl(root: Path, rows: Rows) -> str:
    (root / "rows.jsonl").write_bytes(jsonl(rows))
    return "rows.jsonl"


def write_json(root: Path, rows: Rows) -> str:
    (root / "rows.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return "rows.json"


def write_wrapped(root: Path, rows: Rows) -> str:
    whole = {"version": {"a": [1]}, "seed": 12345678901234567890, "data": rows}
    (root / "rows.json").write_text(json.dumps(whole), encoding="utf-8")
    return "rows.json"


def write_lines_as_json(root: Path, rows: Rows) -> str:
    (root / "rows.json").write_bytes(jsonl(rows))
    return "rows.json"


def write_table(root: Path, rows: Rows, name: str, delimiter: str) -> str:
    columns = sorted({key for row in rows for key in row})
    with (root / name).open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, delimiter=delimiter)
        table.writeheader()
        for row in rows:
            cells = {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()}
            table.writerow(cells)
    return name


def write_csv(root: Path, rows: Rows) -> str:
    return write_table(root, rows, "rows.csv", ",")


def write_tsv(root: Path, rows: Rows) -> str:
    return write_table(root, rows, "rows.tsv", "\t")


def table_of(rows: Rows) -> pa.Table:
    # pyarrow itself takes the columns of the first row only
    columns = sorted({key for row in rows for key in row})
    return pa.Table.from_pylist([{key: row.get(key) for key in columns} for row in rows])


def write_parquet(root: Path, rows: Rows) -> str:
    pq.write_table(table_of(rows), root / "rows.parquet", row_group_size=30)
    return "rows.parquet"


def write_arrow_stream(root: Path, rows: Rows) -> str:
    table = table_of(rows)
    with pa.ipc.new_stream(str(root / "rows.arrow"), table.schema) as file:
        file.write_table(table, max_chunksize=70)
    return "rows.arrow"


def write_arrow_file(root: Path, rows: Rows) -> str:
    table = table_of(rows)
    with pa.ipc.new_file(str(root / "rows.arrow"), table.schema) as file:
        file.write_table(table, max_chunksize=70)
    return "rows.arrow"


def write_saved(root: Path, rows: Rows) -> str:
    datasets.Dataset(table_of(rows)).save_to_disk(root / "saved", num_shards=3)
    return "saved"


def write_saved_dict(root: Path, rows: Rows) -> str:
    other = datasets.Dataset.from_list([GOOD])
    both = datasets.DatasetDict({"train": datasets.Dataset(table_of(rows)), "test": other})
    both.save_to_disk(root / "saved")
    return "saved"


def write_hub(root: Path, rows: Rows) -> str:
    (root / "owner").mkdir()
    (root / "owner/train.jsonl").write_bytes(jsonl(rows))
    return f"hub:{root}/owner"


def write_gz(root: Path, rows: Rows) -> str:
    (root / "rows.jsonl.gz").write_bytes(gzip.compress(jsonl(rows)))
    return "rows.jsonl.gz"


def write_bz2(root: Path, rows: Rows) -> str:
    (root / "rows.jsonl.bz2").write_bytes(bz2.compress(jsonl(rows)))
    return "rows.jsonl.bz2"


def write_xz(root: Path, rows: Rows) -> str:
    (root / "rows.jsonl.xz").write_bytes(lzma.compress(jsonl(rows)))
    return "rows.jsonl.xz"


def write_zst(root: Path, rows: Rows) -> str:
    with pa.output_stream(str(root / "rows.jsonl.zst"), compression="zstd") as file:
        file.write(jsonl(rows))
    return "rows.jsonl.zst"


def write_packed_json(root: Path, rows: Rows) -> str:
    (root / "rows.json.gz").write_bytes(gzip.compress(json.dumps({"data": rows}).encode()))
    return "rows.json.gz"


def write_packed_csv(root: Path, rows: Rows) -> str:
    (root / "rows.csv.xz").write_bytes(lzma.compress((root / write_csv(root, rows)).read_bytes()))
    return "rows.csv.xz"


def write_glob(root: Path, rows: Rows) -> str:
    (root / "b").mkdir()
    (root / "a.jsonl").write_bytes(jsonl(rows[:70]))
    (root / "b/b.jsonl.gz").write_bytes(gzip.compress(jsonl(rows[70:150])))
    pq.write_table(table_of(rows[150:]), root / "b/c.parquet")
    (root / "b/README.md").write_text("none of the rows", encoding="utf-8")
    return "**/*"


CONTAINERS: dict[str, Callable[[Path, Rows], str]] = {
    name.removeprefix("write_"): value
    for name, value in list(globals().items())
    if name.startswith("write_") and name not in ("write_rows", "write_table")
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("form", SINGLE)
def test_the_same_rows_from_every_container(tmp_path: Path, container: str, form: str) -> None:
    rows = [SINGLE[form](row) for row in conversations(200)]
    (tmp_path / "plain").mkdir()
    plain = bare(read_records(tmp_path / "plain", write_jsonl(tmp_path / "plain", rows)))
    # the plain reading is the one that test_source_formats compares with the text itself
    assert len(plain) == 200
    assert plain[6].messages[0].content == '问题 6: "why",\nand\thow? 🙂'
    (tmp_path / "other").mkdir()
    records = read_records(tmp_path / "other", CONTAINERS[container](tmp_path / "other", rows))
    assert bare(records) == plain
    has_instruction = {record.instruction for record in records} != {None}
    assert has_instruction == (form == "alpaca")


@pytest.mark.parametrize("container", ["jsonl", "csv", "parquet", "saved", "zst"])
def test_long_conversations_from_containers(tmp_path: Path, container: str) -> None:
    rows = conversations(30, multi=True)
    (tmp_path / "m").mkdir()
    (tmp_path / "s").mkdir()
    write = CONTAINERS[container]
    own = read_records(tmp_path / "m", write(tmp_path / "m", [as_messages(row) for row in rows]))
    other = read_records(tmp_path / "s", write(tmp_path / "s", [as_sharegpt(row) for row in rows]))
    assert bare(own) == bare(other)
    assert [[(m.role, m.content) for m in record.messages] for record in own] == [
        row["turns"] for row in rows
    ]


@pytest.mark.parametrize(
    ("container", "label", "numbers"),
    [
        ("jsonl", "rows.jsonl", range(1, 101)),
        ("gz", "rows.jsonl.gz", range(1, 101)),
        # indented by one: "[", then three lines of fields between two of braces
        ("json", "rows.json", range(2, 402, 4)),
        ("wrapped", "rows.json", [1] * 100),
        ("parquet", "rows.parquet", range(1, 101)),
        ("arrow_file", "rows.arrow", range(1, 101)),
        ("saved", "saved", range(1, 101)),
        ("saved_dict", "saved/train", range(1, 101)),
        # two lines a row: the answer has a line break
        ("csv", "rows.csv", range(2, 202, 2)),
    ],
)
def test_origins(tmp_path: Path, container: str, label: str, numbers: Any) -> None:
    rows = [{"prompt": f"a{index}", "completion": "b\nc"} for index in range(100)]
    records = read_records(tmp_path, CONTAINERS[container](tmp_path, rows))
    assert [record.origin for record in records] == [f"{label}:{number}" for number in numbers]
    assert [record.row_id for record in records] == [record.origin for record in records]


def test_origins_outside_the_root_are_paths_as_given(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    write_rows(tmp_path / "out.jsonl", [GOOD])
    assert read_records(tmp_path / "root", f"{tmp_path}/out.jsonl")[0].origin == (
        f"{tmp_path}/out.jsonl:1"
    )


def test_origins_of_hub_rows_name_subset_and_split(tmp_path: Path) -> None:
    pattern = write_hub(tmp_path, [GOOD, GOOD])
    assert [record.origin for record in read_records(tmp_path, pattern)] == [
        f"{pattern}/train:1",
        f"{pattern}/train:2",
    ]


def ranged(root: Path, content: bytes, size: int, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setattr(units, "UNIT_BYTES", size)
    return read_file(root, "a.jsonl", content)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.sampled_from([LINE, b"\n", b"  \r\n", LINE[:-1] + b"\r\n", b"{oops\n", b"[1]\n"]),
        min_size=1,
        max_size=40,
    ),
    tail=st.sampled_from([b"", LINE[:-1], b" "]),
    mark=st.sampled_from([b"", b"\xef\xbb\xbf"]),
    size=st.integers(1, 300),
)
def test_byte_ranges_give_the_rows_and_lines_of_one_pass(
    tmp_path: Path, lines: list[bytes], tail: bytes, mark: bytes, size: int
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(mark + b"".join(lines) + tail)
    ranges = units.line_ranges(path, size)
    pieces = [list(jsonl_rows(path, *one)) for one in ranges]

    def shown(rows: list[Any]) -> list[tuple[int, str, str]]:
        return [(row.number, repr(row.value), row.text) for row in rows]

    assert shown([row for piece in pieces for row in piece]) == shown(
        list(jsonl_rows(path, 0, -1, 1))
    )
    expected = [
        number
        for number, line in enumerate((b"".join(lines) + tail).split(b"\n"), start=1)
        if line.strip()
    ]
    assert [row.number for piece in pieces for row in piece] == expected
    # contiguous, and every range but the last has at least the asked size
    assert [one[0] for one in ranges] == [0, *(one[1] for one in ranges[:-1])]
    assert ranges[-1][1] == -1
    assert all(end - start >= size for start, end, _ in ranges[:-1])


def test_large_files_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ranged(tmp_path, LINE * 100, 1000, monkeypatch)
    assert [row.origin for row in rows] == [f"a.jsonl:{number}" for number in range(1, 101)]
    made = units_of(config(tmp_path, "a.jsonl"), ["qa"], "train")
    per_unit = -(-1000 // len(LINE))
    assert [unit.first_line for unit in made] == list(range(1, 101, per_unit))
    assert pickle.loads(pickle.dumps(made)) == made


def test_row_groups_and_saved_rows_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("data_modules.sources.tables._TARGET", 1000)
    rows = [{"prompt": f"a{index}", "completion": f"b{index}"} for index in range(200)]
    for write in (write_parquet, write_saved):
        name = write(tmp_path, rows)
        made = units_of(config(tmp_path, name), ["qa"], "train")
        assert len(made) > 2
        source = SourceConfig(train=name)
        # units can be read in any order, alone
        read_back = {unit.first_line: list(read_unit(unit, source)) for unit in reversed(made)}
        for unit in made:
            first = read_back[unit.first_line][0]
            assert first is not None
            assert first.origin == f"{name}:{unit.first_line}"
        records = [record for unit in made for record in read_back[unit.first_line]]
        assert [record.answer for record in records] == [f"b{index}" for index in range(200)]


def test_units_follow_tasks_sources_and_files(tmp_path: Path) -> None:
    for name in ("q/b.jsonl", "q/a.jsonl", "z.jsonl", "c.jsonl", "e.jsonl"):
        write_rows(tmp_path / name, [GOOD])
    sources = {"z": SourceConfig(train="z.jsonl"), "a": SourceConfig(train="q", eval="e.jsonl")}
    tasks = {
        "code": TaskConfig(sources={"main": SourceConfig(train="c.jsonl")}),
        "qa": TaskConfig(sources=sources),
    }
    data = data_config(tmp_path, tasks)
    made = units_of(data, ["qa", "code"], "train")
    assert [(unit.task, unit.source_name, unit.label, unit.kind) for unit in made] == [
        ("qa", "z", "z.jsonl", Kind.jsonl),
        ("qa", "a", "q/a.jsonl", Kind.jsonl),
        ("qa", "a", "q/b.jsonl", Kind.jsonl),
        ("code", "main", "c.jsonl", Kind.jsonl),
    ]
    assert [unit.label for unit in units_of(data, ["qa", "code"], "eval")] == ["e.jsonl"]
    (record,) = read_unit(made[1], sources["a"])
    assert record is not None
    assert record.task == "qa"
    assert record.source == "a"


def test_splits_of_saved_data_sets(tmp_path: Path) -> None:
    write_saved_dict(tmp_path, [{"prompt": "a", "completion": "train"}])
    assert [r.answer for r in read_records(tmp_path, "saved", split="test")] == ["b"]
    with pytest.raises(DataFault, match=r"no split 'dev'; its splits are train, test"):
        read(tmp_path, "saved", split="dev")


def test_unknown_fields_are_refused_with_all_other_faults(tmp_path: Path) -> None:
    with pytest.raises(DataFault) as caught:
        read(tmp_path, "none.jsonl", fields={"question": "instruction"})
    assert [fault.where for fault in caught.value.faults] == [
        "data.tasks.qa.sources.main.fields.question",
        "data.tasks.qa.sources.main.train",
    ]


def test_long_json_arrays_are_read_in_pieces(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_modules.sources.json_rows._CHUNK", 7)
    rows = [{"prompt": "é" * length, "completion": "b", "n": 12345} for length in range(1, 40)]
    for write in (write_json, write_wrapped):
        records = read_records(tmp_path, write(tmp_path, rows))
        assert [record.request for record in records] == ["é" * n for n in range(1, 40)]
