"""Fuzz: whatever bytes a data file holds, every row of it is a record or a reject with its reason.

Or the file is refused as a whole, with a DataFault that names it. Nothing else may come out, and nothing
may be lost on the way.
"""

from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_modules.cleaning.language import language_of
from data_modules.cleaning.quality import quality_of
from data_modules.cleaning.rules import row_rules
from data_modules.config import CleaningConfig, RowFormat, SourceConfig, TaskConfig, Unification
from data_modules.faults import DataFault
from data_modules.prepare.clean_store import Part
from data_modules.prepare.clean_unit import CleanJob, clean_unit
from data_modules.records import ROLES, Record, Reject
from data_modules.rejects import reject_line
from data_modules.sources.files import Kind
from data_modules.sources.formats import FIELDS, RowFault, record_of
from data_modules.sources.json_rows import is_jsonl
from data_modules.sources.selection import selection_of
from data_modules.sources.units import Unit, line_ranges, read_unit
from data_modules.unification import unified
from tests.fuzz.strategies import TEXTS, as_json, values

KEYS = st.sampled_from([*FIELDS, "messages", "role", "content"])
ROLES_SEEN = st.sampled_from([*ROLES, "human", "gpt", "tool", ""])
TURNS = st.lists(
    st.fixed_dictionaries({"role": ROLES_SEEN, "content": TEXTS})
    | st.fixed_dictionaries({"from": ROLES_SEEN, "value": TEXTS}),
    max_size=4,
)
#: Rows with the right fields, often enough with something usable in them.
LIKELY = (
    st.fixed_dictionaries(
        {"instruction": TEXTS, "output": TEXTS},
        optional={
            "input": TEXTS,
            "id": values(KEYS),
            "negative": values(KEYS),
            "quality": values(KEYS),
            "rejected": TEXTS,
            "behaves_like": TEXTS,
            "tests": values(KEYS),
        },
    )
    | st.fixed_dictionaries({"prompt": TEXTS, "response": TEXTS})
    | st.fixed_dictionaries({"messages": TURNS | TURNS.map(json.dumps)})
    | st.fixed_dictionaries({"conversations": TURNS})
)
ROWS = LIKELY | st.dictionaries(KEYS | TEXTS, values(KEYS), max_size=5) | values(KEYS)
FORMATS = st.sampled_from(list(RowFormat))
SOURCES = st.builds(
    SourceConfig,
    format=FORMATS,
    fields=st.dictionaries(st.sampled_from(FIELDS), KEYS | TEXTS, max_size=3),
)


def check_record(record: Record) -> None:
    """What the rest of the program takes for granted."""
    assert record.messages
    assert record.messages[-1].role == "assistant"
    assert any(message.role == "user" for message in record.messages)
    for message in record.messages:
        assert message.role in ROLES
        assert isinstance(message.content, str)
    assert record.answer.strip()
    assert record.row_id
    assert record.quality is None or 0 <= record.quality <= 1
    texts = [message.content for message in record.messages]
    for text in (*texts, record.row_id, record.behaves_like, record.rejected, record.tests):
        assert text is None or "\0" not in text
        (text or "").encode()  # raises on half a surrogate pair


def check_reject(reject: Reject) -> None:
    assert reject.rule
    assert reject.reason
    assert reject.origin.startswith("f:")
    line = reject_line(reject)
    assert line.count("\n") == 1
    assert json.loads(line)["rule"] == reject.rule
    line.encode()


def read_row(row: Any, source: SourceConfig) -> Record | None:
    """None where the row is refused, with a reason."""
    fault: RowFault | None = None
    try:
        return record_of(row, "qa", "main", source, "f:1")
    except RowFault as error:
        fault = error
    assert fault.rule
    assert fault.reason
    return None


@settings(max_examples=3000)
@given(row=ROWS, source=SOURCES)
@example(row={"instruction": "a", "output": "b", "quality": 10**400}, source=SourceConfig())
@example(row={"instruction": "a", "output": "b", "id": 10**5000}, source=SourceConfig())
@example(row={"messages": "[" * 100_000}, source=SourceConfig())
def test_any_object_is_a_record_or_refused_with_a_reason(row: Any, source: SourceConfig) -> None:
    record = read_row(row, source)
    if record is None:
        return
    check_record(record)
    assert (record.task, record.source, record.origin) == ("qa", "main", "f:1")


def lines() -> st.SearchStrategy[bytes]:
    """Lines of a JSONL file: good, cut, doubled, and bytes that are no JSON at all."""
    whole = st.builds(as_json, ROWS, st.booleans()).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    )
    cut = st.builds(lambda raw, end: raw[: end % (len(raw) + 1)], whole, st.integers(0, 500))
    odd = st.sampled_from(
        [
            *(
                b"",
                b" ",
                b"[" * 100_000,
                b'{"a":' * 5_000,
                b"1" * 10_000,
                b"\xff\xfe",
                b"\xef\xbb\xbf",
            ),
            *(
                b"\0" * 9,
                b'{"a": 1, "a": 2}',
                b"NaN",
                b"-Infinity",
                b"1e999",
                b'"\\ud800"',
                b"\xc3",
            ),
            *(b"\r", b"{" * 3, b'{"instruction": "a", "output": "b"} {}', b"\x1f\x8b\x08", b"// a"),
            b'{"\\ud800": 1, "\\ud800": 2}',
            b'{"id": ' + b"7" * 4_000 + b', "instruction": "a", "output": "b"}',
        ]
    )
    return whole | cut | odd | st.binary(max_size=40).map(lambda raw: raw.replace(b"\n", b""))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def check_faults(fault: DataFault, path: Path) -> None:
    for one in fault.faults:
        assert one.where.startswith((str(path), "data.tasks.qa.sources.main"))
        assert one.seen
        assert one.rule
        str(one).encode("utf-8", "replace")


def read(
    path: Path, kind: Kind, source: SourceConfig, **span: int
) -> list[Record | Reject | None] | None:
    """The rows of a file, checked; None where it is refused as a whole."""
    unit = Unit("qa", "main", str(path), kind, "train", label="f", **span)
    try:
        found = list(read_unit(unit, source))
    except DataFault as fault:
        check_faults(fault, path)
        return None
    for item in found:
        if isinstance(item, Record):
            check_record(item)
        elif isinstance(item, Reject):
            check_reject(item)
    return found


@settings(max_examples=1500)
@given(
    rows=st.lists(lines(), max_size=6),
    end=st.sampled_from([b"\n", b"\r\n", b""]),
    source=SOURCES,
    size=st.integers(1, 200),
)
def test_every_line_is_accounted_for(
    place: Path, rows: list[bytes], end: bytes, source: SourceConfig, size: int
) -> None:
    path = place / "rows.jsonl"
    raw = b"\n".join(rows) + end
    path.write_bytes(raw)
    found = read(path, Kind.jsonl, source)
    if found is None:
        return
    text = raw.decode("utf-8-sig")  # read as a whole: it is UTF-8
    assert len(found) == sum(bool(line.strip()) for line in text.split("\n"))
    origins = [item.origin for item in found if item is not None]
    assert len(set(origins)) == len(origins) == len(found)
    if raw:
        pieces = [
            read(path, Kind.jsonl, source, start=start, end=stop, first_line=first)
            for start, stop, first in line_ranges(path, size)
        ]
        # a file without rows is a fault, an empty piece of one is none
        assert [item for piece in pieces for item in piece or ()] == found


OPENERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
}


@settings(max_examples=1500)
@given(
    raw=st.binary(max_size=60)
    | st.lists(lines(), max_size=4).map(b",".join).map(lambda inner: b"[" + inner + b"]")
    | st.builds(as_json, values(KEYS, 12), st.booleans()).map(
        lambda text: text.encode("utf-8", "surrogatepass")
    ),
    packed=st.sampled_from(sorted(OPENERS)),
    damage=st.integers(0, 60) | st.none(),
)
def test_any_json_file(place: Path, raw: bytes, packed: str, damage: int | None) -> None:
    path = place / f"rows.json{packed}"
    written = OPENERS[packed](raw)
    path.write_bytes(written if damage is None else written[:damage])
    try:
        kind = Kind.jsonl if is_jsonl(path) else Kind.json
    except DataFault as fault:
        check_faults(fault, path)
        return
    read(path, kind, SourceConfig())


def tables() -> st.SearchStrategy[bytes]:
    cells = TEXTS | st.sampled_from(['"', '""', '"a', 'b"', ",", "\t", '"x,y"', '"a\nb"'])
    row = st.lists(cells, max_size=4).map(",".join)
    header = st.just("instruction,output") | st.just("prompt,completion,id,quality") | row
    table = st.builds(
        lambda first, rest: "\n".join([first, *rest]), header, st.lists(row, max_size=5)
    )
    return table.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=60)


@settings(max_examples=1500)
@given(raw=tables(), kind=st.sampled_from([Kind.csv, Kind.tsv]), source=SOURCES)
@example(raw=b"instruction,output\n\x85a,b\n", kind=Kind.csv, source=SourceConfig())
def test_any_table(place: Path, raw: bytes, kind: Kind, source: SourceConfig) -> None:
    path = place / f"rows.{kind.value}"
    path.write_bytes(raw)
    read(path, kind, source)


UNITS = count()
CLEANING = CleaningConfig(
    max_repetition=0.6, min_answer_chars=2, max_answer_chars=3000, near_duplicates=0.8
)
TASKS = {
    "qa": TaskConfig(
        {"main": SourceConfig()},
        tag="[qa]",
        constraint="Only qa.",
        unify=list(Unification),
        forbidden=[],
        answer_languages=["en", "zh"],
        format=r"\d+",
    ),
    "code": TaskConfig(tag="<code>"),
}


@settings(max_examples=1000)
@given(row=LIKELY)
def test_any_record_is_cleaned_or_refused(row: dict[str, Any]) -> None:
    record = read_row(row, SourceConfig())
    if record is None:
        return
    language = language_of(record.request)
    assert isinstance(language, str)
    assert 0 <= quality_of(record) <= 1
    for rule in row_rules(CLEANING, TASKS):
        reason = rule.check(record, TASKS["qa"])
        assert reason is None or reason
    once = unified(record, TASKS["qa"])
    assert unified(once, TASKS["qa"]) == once
    check_record(once)


@settings(max_examples=150)
@given(rows=st.lists(lines(), min_size=1, max_size=6))
def test_the_figures_of_a_unit_add_up(place: Path, rows: list[bytes]) -> None:
    """Read = not selected + unreadable + rejected + kept, and the kept ones can be read back."""
    path = place / "unit.jsonl"
    path.write_bytes(b"\n".join(rows))
    folder = place / f"unit_{next(UNITS)}"
    unit = Unit("qa", "main", str(path), Kind.jsonl, "train", label="f")
    try:
        stats = clean_unit(CleanJob(unit, TASKS, CLEANING, folder))
    except DataFault:
        assert not folder.exists()
        return
    refused = sum(stats.unreadable.values()) + sum(stats.rejects.values())
    assert stats.read == stats.not_selected + refused + stats.kept
    kept = [
        record for part in sorted(folder.glob("part_*")) for record in Part.open(part).records()
    ]
    assert len(kept) == stats.kept
    for record in kept:
        check_record(record)
    rejects = (folder / "rejects.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    assert len(rejects) == refused


EXPRESSIONS = (
    st.sampled_from(
        [
            *(
                "len(output) > 3",
                "lang == 'zh'",
                "row['x']",
                "row.get('id') in [1, 'a']",
                "1/0",
                "9**9**9",
            ),
            *(
                "'a' * 10**10",
                "output.format(row)",
                "int(output)",
                "output[0]",
                "not quality",
                "row",
            ),
            *(
                "max(row)",
                "float(quality) > .5",
                "output.upper() == output",
                "[1][quality]",
                "abs(id)",
            ),
        ]
    )
    | TEXTS
)


@settings(max_examples=1000)
@given(expression=EXPRESSIONS, row=ROWS)
def test_any_selection_on_any_row(expression: str, row: Any) -> None:
    key = "data.tasks.qa.sources.main.where"
    with suppress(DataFault, RowFault):
        chosen = selection_of(expression, key)
        assert chosen is None or chosen(row) in (True, False)
