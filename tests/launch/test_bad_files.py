"""Files that are not as they should be: a message with file and line, or a counted reject."""

from __future__ import annotations

import gzip
import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from data_modules.samples import SampleStore
from tests.shared_folder import GOOD, ROWS, WORDS, Folder, plan, refused, row

BAD_LINES = [
    ('{"instruction": "w1", ', "malformed JSON"),
    ({"instruction": "w1"}, "field 'output' is missing"),
    ({"instruction": "w1", "output": " "}, "field 'output' is empty"),
    ({"instruction": "w1", "output": 7}, "field 'output' is int, expected text"),
    ([1], "the line holds list, expected an object"),
    ({"messages": [{"role": "user", "content": "w1"}]}, "turns must alternate"),
]


@pytest.mark.parametrize(("line", "reason"), BAD_LINES, ids=[reason for _, reason in BAD_LINES])
def test_bad_line(
    folder: Folder, capsys: pytest.CaptureFixture[str], line: Any, reason: str
) -> None:
    folder.write("qa", [*GOOD[:2], line, *GOOD[2:]])
    (fault,) = refused(folder, capsys)
    assert fault.startswith("train/qa.jsonl:3: "), "relative to data.root"
    assert reason in fault
    assert f"1 of {ROWS + 1} rows are unusable and data.max_reject_ratio is 0" in fault
    assert "Mend the rows" in fault
    assert ("data.tasks.qa.sources.<source>.fields" in fault) == ("is missing" in reason)


def test_tolerated_bad_lines_are_counted_per_task(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write("qa", [*GOOD, *(line for line, _ in BAD_LINES[:3])])
    folder.write("code", [BAD_LINES[0][0], *GOOD])
    folder.overrides = ["data.max_reject_ratio=0.2"]
    code, out, _ = plan(folder, capsys)
    flat = " ".join(out.split())
    assert code == 0
    assert "code 1 (1 malformed_json)" in flat
    assert "qa 3 (1 empty_answer, 1 malformed_json, 1 missing_field)" in flat
    (file,) = (folder.root / "cache").glob("samples/*/rejects.jsonl")
    rejects = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    assert sorted((one["origin"], one["rule"]) for one in rejects) == [
        ("train/code.jsonl:1", "malformed_json"),
        (f"train/qa.jsonl:{ROWS + 1}", "malformed_json"),
        (f"train/qa.jsonl:{ROWS + 2}", "missing_field"),
        (f"train/qa.jsonl:{ROWS + 3}", "empty_answer"),
    ]
    assert f"each is listed in {file}" in flat, "the message says where they are"


def test_faults_of_all_files_are_listed_at_once(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    for task in ("qa", "code"):
        folder.write(task, ["{", *GOOD])
    folder.write("chat", ["{"] * 9)
    lines = refused(folder, capsys)
    assert sum("qa.jsonl:1: malformed JSON" in line for line in lines) == 1
    assert sum("code.jsonl:1: malformed JSON" in line for line in lines) == 1
    assert sum("chat.jsonl" in line for line in lines) == 6
    assert any("and 4 more unusable rows" in line for line in lines)


def test_long_sample_is_dropped_and_counted(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write("qa", [*GOOD, row(0, words=200)])
    code, out, _ = plan(folder, capsys)
    flat = " ".join(out.split())
    assert code == 0
    assert "warning: training rows left out or truncated: qa 1 (1 overlong)" in flat
    assert re.search(rf"qa [^\w]*{ROWS} ", flat), "the table shows the rows that are left"


def test_long_sample_is_truncated(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write("qa", [*GOOD, {"instruction": "w1", "output": " ".join(WORDS * 3)}])
    folder.overrides = ["data.overlong=truncate"]
    code, out, _ = plan(folder, capsys)
    flat = " ".join(out.split())
    assert code == 0
    assert re.search(rf"qa [^\w]*{ROWS + 1} ", flat), "the truncated row is kept"
    assert "qa 1 (1 truncated)" in flat


def test_sample_whose_answer_is_cut_off_has_nothing_to_train_on(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.write("qa", [*GOOD, row(0, words=200)])
    folder.overrides = ["data.overlong=truncate"]
    code, out, _ = plan(folder, capsys)
    assert code == 0
    assert "qa 1 (1 all_masked)" in " ".join(out.split())


def test_task_with_long_samples_only(folder: Folder, capsys: pytest.CaptureFixture[str]) -> None:
    folder.write("qa", [row(number, words=200) for number in range(3)])
    lines = refused(folder, capsys)
    assert all("task 'qa' has no usable training row" in line for line in lines)


LINES = "".join(json.dumps(one) + "\n" for one in GOOD)
SOURCE = "data.tasks.qa.sources.main.train"


def put(folder: Folder, name: str, content: bytes) -> Path:
    """The training file of task qa, as these bytes."""
    (folder.root / "data/train/qa.jsonl").unlink(missing_ok=True)
    path = folder.root / "data/train" / name
    path.write_bytes(content)
    return path


def cut_gzip() -> bytes:
    whole = gzip.compress("".join(json.dumps(row(i, 30)) + "\n" for i in range(2000)).encode())
    return whole[: len(whole) // 2]


#: name, content, (place, what is seen, the rule, part of the remedy); {path} is the file
BAD_FILES = {
    "truncated gzip": (
        "qa.jsonl.gz",
        cut_gzip(),
        (r"{path}:\d+", "the .gz data ends or is damaged after line", "must be whole", "again"),
    ),
    "no gzip at all": (
        "qa.jsonl.gz",
        LINES.encode(),
        (r"{path}:0", "the .gz data ends or is damaged after line 0", "must be whole", "again"),
    ),
    "UTF-16": (
        "qa.jsonl",
        LINES.encode("utf-16"),
        ("{path}:1", "the file is UTF-16", "data files are UTF-8", "iconv -f UTF-16 -t UTF-8"),
    ),
    "UTF-16 without a mark": (
        "qa.jsonl",
        LINES.encode("utf-16-le"),
        ("{path}:1", "the file is UTF-16LE", "data files are UTF-8", "iconv -f UTF-16LE -t UTF-8"),
    ),
    "Latin-1": (
        "qa.jsonl",
        LINES.encode() + b'{"instruction": "caf\xe9", "output": "w1"}\n',
        (f"{{path}}:{ROWS + 1}", "byte 0xe9 is not UTF-8", "data files are UTF-8", "iconv"),
    ),
    "empty": (
        "qa.jsonl",
        b"",
        (SOURCE, "{path} is empty", "a source has rows", "Fill it or leave it out"),
    ),
    "blank lines only": (
        "qa.jsonl",
        b"\n  \n",
        (SOURCE, "{path} has no rows", "a source has rows", "Fill it or leave it out"),
    ),
    "header only": (
        "qa.csv",
        b"prompt,completion\n",
        (SOURCE, "{path} has no rows", "a source has rows", "Fill it or leave it out"),
    ),
    "no array": (
        "qa.json",
        b'{"a": 1,\n"b": "c"}',
        ("{path}:2", "the file holds an object without a list", "", "JSONL"),
    ),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_file(folder: Folder, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    name, content, (where, *words) = BAD_FILES[kind]
    path = put(folder, name, content)
    (fault,) = refused(folder, capsys)
    assert re.match(where.replace("{path}", re.escape(str(path))) + ": ", fault), fault
    for expected in words:
        assert expected.replace("{path}", str(path)) in fault


#: name, content with one bad row, line of that row, its rule, the reason
BAD_ROWS = {
    "NUL bytes": (
        "qa.jsonl",
        LINES + "\0" * 40 + "\n",
        ROWS + 1,
        "nul_byte",
        "a NUL byte at column 1",
    ),
    "duplicate keys": (
        "qa.jsonl",
        LINES + '{"instruction": "w1", "output": "w2", "output": "w3"}\n',
        ROWS + 1,
        "duplicate_key",
        "key 'output' appears twice",
    ),
    "mixed types": (
        "qa.jsonl",
        '{"instruction": "w1", "output": ["w2"]}\n' + LINES,
        1,
        "not_text",
        "field 'output' is list, expected text",
    ),
    "mixed types in an array": (
        "qa.json",
        f'[{{"instruction": "w1", "output": 7}},\n{",".join(LINES.splitlines())}]',
        1,
        "not_text",
        "field 'output' is int, expected text",
    ),
    "a cell too many": (
        "qa.csv",
        "prompt,completion\n" + "w1,w2,w3\n" + "w4,w5\n" * ROWS,
        2,
        "cell_count",
        "the row has 3 cells, the header 2 (['prompt', 'completion'])",
    ),
}


@pytest.mark.parametrize("kind", BAD_ROWS)
def test_bad_row_is_refused_and_where_allowed_counted(
    folder: Folder, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    name, content, line, rule, reason = BAD_ROWS[kind]
    put(folder, name, content.encode())
    (fault,) = refused(folder, capsys)
    assert fault.startswith(f"train/{name}:{line}: ")
    assert reason in fault
    assert f"1 of {ROWS + 1} rows are unusable and data.max_reject_ratio is 0" in fault
    folder.overrides = ["data.max_reject_ratio=0.1"]
    code, out, _ = plan(folder, capsys)
    assert code == 0
    assert f"left out or truncated: qa 1 (1 {rule})" in " ".join(out.split())


def planned(folder: Folder, capsys: pytest.CaptureFixture[str]) -> tuple[str, list[int], list[int]]:
    """The plan that is printed, and the tokens and supervision of its samples."""
    cache = folder.root / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    code, out, error = plan(folder, capsys)
    assert (code, error) == (0, "")
    (place,) = (cache / "samples").iterdir()
    store = SampleStore.load(place)
    return out, store.input_ids.tolist(), store.supervised.tolist()


@pytest.mark.parametrize("name", ["qa.jsonl", "qa.csv"])
def test_wrong_columns_are_named_and_may_be_mapped(
    folder: Folder, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    good = planned(folder, capsys)
    rows = [(one["instruction"], one["output"]) for one in GOOD]
    text = "".join(json.dumps({"question": a, "reply": b}) + "\n" for a, b in rows)
    if name == "qa.csv":
        text = "question,reply\n" + "".join(f"{a},{b}\n" for a, b in rows)
    put(folder, name, text.encode())
    lines = refused(folder, capsys)
    assert len(lines) == 6, "five rows, and that there are more"
    first = 2 if name == "qa.csv" else 1
    assert lines[0].startswith(
        f"train/{name}:{first}: field 'instruction' is missing (has ['question', 'reply']); "
        f"{ROWS} of {ROWS} rows are unusable"
    )
    folder.overrides = [
        f"data.tasks.qa={{sources:{{main:{{train:train/{name},"
        "fields:{instruction:question,output:reply}}},tag:'[qa]'}"
    ]
    assert planned(folder, capsys) == good


def test_a_byte_order_mark_changes_nothing(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    before = planned(folder, capsys)
    put(folder, "qa.jsonl", b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n").encode())
    assert planned(folder, capsys) == before
    put(folder, "qa.jsonl", LINES.replace("w1", "w2").encode())
    assert planned(folder, capsys) != before, "the plan would show another file"


def test_a_line_of_ten_megabytes_is_read_and_counted(
    folder: Folder, capsys: pytest.CaptureFixture[str]
) -> None:
    long = {"instruction": " ".join(["x" * 10_000] * 1000), "output": "w1"}
    path = put(folder, "qa.jsonl", (LINES + json.dumps(long) + "\n" + LINES).encode())
    assert path.stat().st_size > 10_000_000
    code, out, _ = plan(folder, capsys)
    assert code == 0
    flat = " ".join(out.split())
    assert "training rows left out or truncated: qa 1 (1 overlong)" in flat
    assert re.search(rf"qa [^\w]*{2 * ROWS} ", flat), "the rows behind it are read"
