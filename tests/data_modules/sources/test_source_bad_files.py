"""Every kind of bad file: a message with file and line, or a counted reject."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import random
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_modules.faults import DataFault, Fault
from data_modules.records import Record, Reject
from data_modules.sources import streams
from tests.data_modules.sources.source_data import GOOD, LINE, read, read_file, read_records

KEY = "data.tasks.qa.sources.main.train"


def fault_of(root: Path, name: str, content: bytes | None = None, **settings: Any) -> Fault:
    """The one fault that reading a file ends in."""
    if content is not None:
        (root / name).write_bytes(content)
    with pytest.raises(DataFault) as caught:
        read(root, name, **settings)
    (fault,) = caught.value.faults
    return fault


def reject_of(rows: list[Any], good: int) -> Reject:
    """The one reject among ``good`` records."""
    assert [type(row) for row in rows].count(Record) == good
    (reject,) = [row for row in rows if isinstance(row, Reject)]
    assert len(rows) == good + 1
    return reject


def noise(count: int) -> bytes:
    """Lines that do not compress well, so that half a file has some of them."""
    source = random.Random(5)
    return b"".join(
        json.dumps({"prompt": source.randbytes(200).hex(), "completion": "b"}).encode() + b"\n"
        for _ in range(count)
    )


def packed(suffix: str, content: bytes) -> bytes:
    if suffix == ".gz":
        return gzip.compress(content)
    if suffix == ".bz2":
        return bz2.compress(content, compresslevel=1)
    if suffix == ".xz":
        return lzma.compress(content)
    return pa.compress(content, codec="zstd", asbytes=True)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json", "rows.csv"])
def test_truncated_compression_names_the_line_reached(
    tmp_path: Path, suffix: str, name: str
) -> None:
    content = noise(1500)
    if name == "rows.json":
        content = b"[" + content.strip().replace(b"\n", b",\n") + b"]"
    elif name == "rows.csv":
        cells = (json.loads(line)["prompt"].encode() for line in content.splitlines())
        content = b"prompt,completion\n" + b"".join(cell + b",b\n" for cell in cells)
    whole = packed(suffix, content)
    assert len(read_file(tmp_path, name + suffix, whole)) == 1500
    fault = fault_of(tmp_path, name + suffix, whole[: len(whole) // 2])
    path, line = fault.where.rsplit(":", 1)
    assert path == f"{tmp_path}/{name}{suffix}"
    assert 0 < int(line) <= 800  # half of the rows; less what a decompressor holds back
    assert f"after line {line}" in fault.seen
    assert "again" in fault.remedy


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".xz", ".zst"])
def test_what_is_not_compressed_at_all(tmp_path: Path, suffix: str) -> None:
    fault = fault_of(tmp_path, f"a.jsonl{suffix}", LINE)
    assert fault.where == f"{tmp_path}/a.jsonl{suffix}:0"
    assert fault.rule == "compressed files must be whole"


@pytest.mark.parametrize(
    ("line", "rule", "reason"),
    [
        (b'{"instruction": "a", ', "malformed_json", "malformed JSON: Expecting property name"),
        (b'{"instruction": "a"} x', "malformed_json", "malformed JSON: Extra data at column 22"),
        (b'{"a": NaN}', "malformed_json", "malformed JSON: NaN is no number"),
        (b'{"a": -Infinity}', "malformed_json", "malformed JSON: -Infinity is no number"),
        (b'{"a": ' + b"1" * 5000 + b"}", "malformed_json", "malformed JSON: Exceeds the limit"),
        (b"[" * 100_000, "malformed_json", "malformed JSON: maximum recursion depth"),
        (b'{"a": 1, "a": 2}', "duplicate_key", "key 'a' appears twice"),
        (b'{"messages": [{"role": "user", "role": "x"}]}', "duplicate_key", "key 'role' appears"),
        (b'{"instruction": "a\0", "output": "b"}', "nul_byte", "a NUL byte at column 19"),
        (b"\0" * 40, "nul_byte", "the line holds a NUL byte at column 1"),
        (b'{"instruction": "a\\u0000", "output": "b"}', "nul_byte", "'instruction' holds a NUL"),
        (b"[1, 2]", "not_an_object", "the line holds list, expected an object"),
        (b'{"text": "a"}', "missing_field", r"is missing (has ['text'])"),
        (b'{"instruction": 1, "output": "b"}', "not_text", "field 'instruction' is int"),
    ],
)
def test_bad_lines_are_rejects(tmp_path: Path, line: bytes, rule: str, reason: str) -> None:
    rows = read_file(tmp_path, "a.jsonl", LINE + line + b"\r\n" + LINE)
    reject = reject_of(rows, good=2)
    assert (reject.task, reject.origin, reject.rule) == ("qa", "a.jsonl:2", rule)
    assert reason in reject.reason
    assert reject.row == line.decode(), "as it stood in the file, without its line end"


def test_a_reject_has_the_rows_own_id(tmp_path: Path) -> None:
    rows = read_file(tmp_path, "a.jsonl", b'{"id": 7, "instruction": "a"}\n{"id": [1]}\n[]\n')
    assert [row.row_id for row in rows] == ["7", "a.jsonl:2", "a.jsonl:3"]


def test_byte_order_mark_blank_lines_and_crlf_are_no_faults(tmp_path: Path) -> None:
    good = LINE.strip()
    content = b"\xef\xbb\xbf" + good + b"\r\n\r\n   \n" + good + b"\r\n\n" + good
    rows = read_file(tmp_path, "a.jsonl", content)
    # Blank lines still count: the numbers are those an editor shows.
    assert [row.origin for row in rows] == ["a.jsonl:1", "a.jsonl:4", "a.jsonl:6"]
    assert {type(row) for row in rows} == {Record}
    assert len(read_file(tmp_path, "a.json", b"\xef\xbb\xbf [" + good + b"]")) == 1
    (row,) = read_file(tmp_path, "a.csv", b"\xef\xbb\xbfprompt,completion\r\na,b\r\n")
    assert (row.request, row.answer, row.origin) == ("a", "b", "a.csv:2")


def test_unicode_line_separators_do_not_end_a_line(tmp_path: Path) -> None:
    text = "one\u2028two\x85three\rfour"
    row = {"instruction": text, "output": "b"}
    content = json.dumps(row, ensure_ascii=False).encode()
    assert read_file(tmp_path, "a.jsonl", content)[0].request == text
    table = f'prompt,completion\n"{text}",b\nc,d\n'.encode()
    rows = read_file(tmp_path, "a.csv", table)
    assert [(row.request, row.origin) for row in rows] == [(text, "a.csv:2"), ("c", "a.csv:3")]


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.jsonl.gz"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_recognised(tmp_path: Path, name: str, encoding: str) -> None:
    text = "prompt,completion\na,b\n" if name == "a.csv" else json.dumps(GOOD) + "\n"
    content = text.encode(encoding)
    fault = fault_of(tmp_path, name, gzip.compress(content) if name.endswith("gz") else content)
    assert fault.where == f"{tmp_path}/{name}:1"
    assert fault.seen == f"the file is {encoding.upper().replace('6-', '6')}"
    assert f"iconv -f {fault.seen.split()[-1]} -t UTF-8" in fault.remedy


@pytest.mark.parametrize("bad_line", [1, 3, 900])
@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_bytes_that_are_not_utf8_name_their_line(tmp_path: Path, name: str, bad_line: int) -> None:
    # 900 lines are more than a text file object decodes ahead at once.
    lines = [b'{"instruction": "good", "output": "b"}'] * 1000
    lines[bad_line - 1] = b'{"instruction": "caf\xe9", "output": "b"}'
    content = b"\n".join(lines)
    if name == "a.json":
        content = b"[" + b",\n".join(lines) + b"]"
    elif name == "a.csv":
        content = b"\n".join(line.replace(b'"', b"") for line in lines)
    fault = fault_of(tmp_path, name, content)
    assert fault.where == f"{tmp_path}/{name}:{bad_line}"
    assert fault.seen == "byte 0xe9 is not UTF-8"
    assert "iconv" in fault.remedy


def test_a_line_of_ten_megabytes_is_read(tmp_path: Path) -> None:
    text = "x" * 10_000_000
    row = json.dumps({"instruction": text, "output": "b"}).encode()
    rows = read_file(tmp_path, "a.jsonl", LINE + row + b"\n" + LINE)
    assert [len(row.request) for row in rows] == [1, 10_000_000, 1]
    assert [row.origin for row in rows] == ["a.jsonl:1", "a.jsonl:2", "a.jsonl:3"]
    rows = read_file(tmp_path, "a.json", b"[" + LINE + b"," + row + b"]")
    assert [len(row.request) for row in rows] == [1, 10_000_000]
    rows = read_file(tmp_path, "a.csv", b"prompt,completion\n" + text.encode() + b",b\nc,d\n")
    assert [len(row.request) for row in rows] == [10_000_000, 1]


def test_lines_above_the_limit_are_rejects_that_are_not_held(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    size = 3 * streams.MAX_ROW_BYTES
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(LINE + b'{"instruction": "')
        for _ in range(size >> 20):
            file.write(b"x" * (1 << 20))
        file.write(b'", "output": "b"}\n' + LINE)
    tracemalloc.start()
    reject = reject_of(read(tmp_path, path.name), good=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (reject.rule, reject.origin) == ("overlong_line", "a.jsonl.gz:2")
    assert reject.reason == "the line has 192.0 MiB, the limit is 64"
    assert reject.row == '{"instruction": "' + "x" * 983 + "…"
    assert peak < 2.5 * streams.MAX_ROW_BYTES


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.parquet", "a.arrow"])
def test_an_empty_file_is_a_fault(tmp_path: Path, name: str) -> None:
    fault = fault_of(tmp_path, name, b"")
    assert (fault.where, fault.seen) == (KEY, f"{tmp_path}/{name} is empty")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", b"\n \n"),
        ("a.jsonl.gz", gzip.compress(b"", mtime=0)),
        ("a.json", b"[]"),
        ("a.csv", b"prompt,completion\n"),
    ],
)
def test_a_file_without_rows_is_a_fault(tmp_path: Path, name: str, content: bytes) -> None:
    fault = fault_of(tmp_path, name, content)
    assert (fault.where, fault.seen) == (KEY, f"{tmp_path}/{name} has no rows")


def test_a_table_without_rows_is_a_fault(tmp_path: Path) -> None:
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert fault_of(tmp_path, "a.parquet").seen == f"{tmp_path}/a.parquet is empty"


@pytest.mark.parametrize(
    ("content", "line", "seen"),
    [
        (b'[{"instruction": "a"},\n{"output" 3}]', 2, "malformed JSON: Expecting ':' delimiter"),
        (b'[{"instruction": "a"}\n{"output": 3}]', 2, "',' or ']' is missing here"),
        (b'[{"instruction": "a"},\n\n{"out', 3, "malformed JSON: Unterminated string"),
        (b'[\n{"a": 1},\n', 3, "malformed JSON: Expecting value"),
        (b'[\n{"a": 1}]\n x', 3, "there is more text after the end of the value"),
        (b'\n"text"', 2, "'[' or '{' is missing here"),
        (b"\n\n", 3, "'[' or '{' is missing here"),
        (b'{"a": 1,\n"b": "c"}', 2, "the file holds an object without a list"),
        (b'{"a": [],\n"b": []}', 2, "the file holds lists under ['a', 'b']"),
        (b'{"a": [],\n3: []}', 2, "a key is missing here"),
    ],
)
def test_json_that_is_no_array(tmp_path: Path, content: bytes, line: int, seen: str) -> None:
    fault = fault_of(tmp_path, "a.json", content)
    assert fault.where == f"{tmp_path}/a.json:{line}"
    assert fault.seen == seen
    assert "JSONL" in fault.remedy


def test_bad_rows_of_a_json_array_are_rejects(tmp_path: Path) -> None:
    good = LINE.decode().strip()
    content = f'[{good},\n{{"a": 1, "a": 2}}, 3,\n{{"a": NaN}}, {{"instruction": 1}}, {good}]'
    rows = read_file(tmp_path, "a.json", content.encode())
    assert [row.rule if isinstance(row, Reject) else "" for row in rows] == [
        *("", "duplicate_key", "not_an_object", "malformed_json", "not_text", ""),
    ]
    assert [row.origin for row in rows] == [f"a.json:{line}" for line in (1, 2, 2, 3, 3, 3)]
    assert rows[1].row == '{"a": 1, "a": 2}'


def test_bad_rows_of_a_table_are_rejects(tmp_path: Path) -> None:
    content = (
        b'prompt,completion,id\na,b,1\nshort,"x\ny"\nlong,b,3,4\n\n"a"b,c,5\nn\0l,b,6\na,b,7\n'
    )
    rows = read_file(tmp_path, "a.csv", content)
    seen = [(row.rule if isinstance(row, Reject) else "", row.origin) for row in rows]
    assert seen == [
        ("", "a.csv:2"),
        ("cell_count", "a.csv:3"),
        ("cell_count", "a.csv:5"),
        ("malformed_csv", "a.csv:7"),
        ("nul_byte", "a.csv:8"),
        ("", "a.csv:9"),
    ]
    assert rows[1].reason == ("the row has 2 cells, the header 3 (['prompt', 'completion', 'id'])")
    assert rows[1].row == 'short,"x\ny"'
    assert rows[4].row_id == "6"


@pytest.mark.parametrize(
    ("content", "line", "seen"),
    [
        (b"prompt,id,prompt\na,b,c\n", 1, "column 'prompt' stands in the header twice"),
        (b'prompt,completion\na,b\n"open,b\na,b\na,b\n', 3, "unexpected end of data"),
        (b'"prompt"x,completion\n', 1, "',' expected after '\"'"),
    ],
)
def test_tables_that_cannot_be_read_on(
    tmp_path: Path, content: bytes, line: int, seen: str
) -> None:
    fault = fault_of(tmp_path, "a.csv", content)
    assert (fault.where, fault.seen) == (f"{tmp_path}/a.csv:{line}", seen)


def test_an_open_quote_does_not_take_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_modules.sources.csv_rows.MAX_ROW_BYTES", 1000)
    fault = fault_of(tmp_path, "a.csv", b'prompt,completion\na,b\n"open,b\n' + b"a,b\n" * 1000)
    assert (fault.where, fault.seen) == (f"{tmp_path}/a.csv:3", "the row does not end")


def table_bytes(root: Path, suffix: str) -> bytes:
    source = random.Random(5)
    table = pa.table(
        {
            "prompt": [source.randbytes(500).hex() for _ in range(3000)],
            "completion": ["b"] * 3000,
        }
    )
    path = root / f"whole{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_stream(str(path), table.schema) as file:
            file.write_table(table, max_chunksize=1000)
    return path.read_bytes()


def test_broken_parquet(tmp_path: Path) -> None:
    whole = table_bytes(tmp_path, ".parquet")
    fault = fault_of(tmp_path, "a.parquet", whole[:5000])
    assert fault.where == f"{tmp_path}/a.parquet"
    assert "damaged or not Parquet" in fault.seen
    assert fault_of(tmp_path, "b.parquet", LINE).where == f"{tmp_path}/b.parquet"
    # the end is fine, a page is not
    middle = len(whole) // 2
    fault = fault_of(
        tmp_path, "c.parquet", whole[:5000] + b"\xff" * middle + whole[middle + 5000 :]
    )
    assert fault.where.startswith(f"{tmp_path}/c.parquet:")


def test_broken_arrow(tmp_path: Path) -> None:
    whole = table_bytes(tmp_path, ".arrow")
    fault = fault_of(tmp_path, "a.arrow", whole[: len(whole) // 2])
    assert fault.where == f"{tmp_path}/a.arrow:1001"
    assert "damaged or not Arrow" in fault.seen
    assert fault_of(tmp_path, "b.arrow", LINE).where == f"{tmp_path}/b.arrow:1"
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/state.json").write_text("{}", encoding="utf-8")
    (tmp_path / "saved/dataset_info.json").write_text("{}", encoding="utf-8")
    assert fault_of(tmp_path, "saved").where == f"{tmp_path}/saved"


def test_bad_rows_of_columns_are_rejects(tmp_path: Path) -> None:
    text = pa.array([b"a", b"caf\xe9", b"c", None], pa.binary()).cast(pa.binary()).view(pa.string())
    pq.write_table(pa.table({"prompt": text, "completion": ["b"] * 4}), tmp_path / "a.parquet")
    rows = read(tmp_path, "a.parquet")
    assert [row.rule if isinstance(row, Reject) else "" for row in rows] == [
        *("", "not_utf8", "", "not_text"),
    ]
    assert rows[3].row == '{"prompt": null, "completion": "b"}'
    assert rows[3].origin == "a.parquet:4"


def test_a_wrong_column_names_those_that_are_there(tmp_path: Path) -> None:
    pq.write_table(pa.table({"question": ["a"], "reply": ["b"]}), tmp_path / "a.parquet")
    reject = reject_of(read(tmp_path, "a.parquet"), good=0)
    assert reject.rule == "missing_field"
    assert "(has ['question', 'reply'])" in reject.reason
    fields = {"instruction": "question", "output": "reply"}
    assert read_records(tmp_path, "a.parquet", fields=fields)[0].answer == "b"


def test_a_hub_data_set_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d/train.jsonl").write_bytes(LINE)
    fault = fault_of(tmp_path, f"hub:{tmp_path}/d", split="dev")
    assert fault.where == KEY
    assert "cannot be read after row 0" in fault.seen
    assert "split 'dev'" in fault.rule


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINE)
    (tmp_path / "a.jsonl").chmod(0)
    fault = fault_of(tmp_path, "a.jsonl")
    assert (fault.where, fault.seen) == (KEY, f"cannot read {tmp_path}/a.jsonl (Permission denied)")


def test_a_file_that_fails_while_it_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINE)

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    fault = fault_of(tmp_path, "a.jsonl")
    assert (fault.where, fault.seen) == (KEY, f"cannot read {tmp_path}/a.jsonl (Permission denied)")


def test_a_file_that_fails_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Disk:
        def __enter__(self) -> Disk:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def readline(self, _: int) -> bytes:
            if self.left:
                self.left -= 1
                return LINE
            raise OSError(5, "Input/output error")

        left = 2

    (tmp_path / "a.jsonl").write_bytes(LINE * 9)
    monkeypatch.setattr(streams, "open_bytes", lambda path: Disk())
    fault = fault_of(tmp_path, "a.jsonl")
    assert fault.where == f"{tmp_path}/a.jsonl:2"
    assert fault.seen == "cannot read it (Input/output error)"
