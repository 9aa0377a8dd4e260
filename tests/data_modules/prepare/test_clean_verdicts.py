"""Which rows stay: forced ones, repeated ones, and when so many go that the run stops."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data_modules.config import CleaningConfig
from data_modules.faults import DataFault
from tests.data_modules.prepare.made_data import (
    DUPLICATES,
    N_A,
    Reader,
    clean,
    kept_origins,
    kept_records,
    lines_of,
    row,
    small_pieces,
    write_data,
)

# --- forced rows


def test_lists_of_ids_have_the_last_word(tmp_path: Path) -> None:
    rows = [
        row(0, id="plain"),
        row(1, id="dropped"),
        N_A | {"id": "kept"},
        N_A | {"id": "judged"},
        row(0, id="kept copy"),
        row(0, id="copy"),
    ]
    (tmp_path / "ids").write_text("kept\nkept copy\nnobody\n", encoding="utf-8")
    cleaning = CleaningConfig(
        placeholder=True,
        exact_duplicates=True,
        keep=[f"@{tmp_path / 'ids'}"],
        drop=["dropped"],
        max_drop_ratio=0.5,
    )
    cleaned = clean(write_data(tmp_path, {"qa": rows}, cleaning=cleaning))
    assert [record.row_id for record in kept_records(cleaned)] == ["plain", "kept", "kept copy"]
    assert cleaned.units[0].forced == {"kept": True, "dropped": False, "kept copy": True}
    assert cleaned.rejects() == {
        "qa": {"forced_drop": 1, "placeholder": 1, "exact_duplicate": 1},
    }
    forced = [one for one in lines_of(cleaned.rejects_file) if one["rule"] == "forced_drop"]
    assert [(one["row_id"], one["reason"]) for one in forced] == [
        ("dropped", "named in data.cleaning.drop")
    ]


def test_ids_without_a_name_are_origins(tmp_path: Path) -> None:
    data = write_data(tmp_path, {"qa": [row(0), row(1)]})
    data.cleaning.drop = ["train/qa.jsonl:1"]
    assert kept_origins(clean(data)) == ["train/qa.jsonl:2"]


# --- comparison


def edited(text: str) -> str:
    return f"{text[:30]}x{text[30:]}"


def test_what_is_compared_names_the_other_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch, 400, 2)
    long = [
        {"instruction": row(n)["instruction"] * 3, "output": row(n)["output"] * 3} for n in range(6)
    ]
    near = {key: edited(text) for key, text in long[2].items()}
    asked = {"instruction": long[4]["instruction"], "output": "something else"}
    rows = [*long, long[1], near]
    cleaning = CleaningConfig(contamination=True, **DUPLICATES)
    data = write_data(tmp_path, {"qa": rows, "b": [row(50)]}, {"qa": [row(60), asked]}, cleaning)
    cleaned = clean(data)
    found = {one["origin"]: (one["rule"], one["reason"]) for one in lines_of(cleaned.rejects_file)}
    assert found.keys() == {f"train/qa.jsonl:{n}" for n in (5, 7, 8)}
    assert found["train/qa.jsonl:5"] == (
        "contamination",
        "the prompt is that of an evaluation row up to case and white space: eval/qa.jsonl:2",
    )
    assert found["train/qa.jsonl:7"] == (
        "exact_duplicate",
        "the same as an earlier row up to case and white space: train/qa.jsonl:2",
    )
    rule, reason = found["train/qa.jsonl:8"]
    assert rule == "near_duplicate"
    assert reason.endswith("those of an earlier row: train/qa.jsonl:3")
    assert cleaned.compared == {
        "qa": {"contamination": 1, "exact_duplicate": 1, "near_duplicate": 1}
    }
    assert kept_origins(cleaned) == [
        "train/b.jsonl:1",
        *(f"train/qa.jsonl:{n}" for n in (1, 2, 3, 4, 6)),
    ]
    # The same of every row from its reject line.
    line = next(one for one in lines_of(cleaned.rejects_file) if one["origin"].endswith(":7"))
    turns = json.loads(line["row"])["messages"]
    assert [turn["content"] for turn in turns] == [long[1]["instruction"], long[1]["output"]]
    assert (line["task"], line["row_id"]) == ("qa", "train/qa.jsonl:7")


def test_across_tasks_only_where_asked(tmp_path: Path) -> None:
    rows = {"a": [row(0)], "b": [row(0), row(1)]}
    data = write_data(tmp_path, rows, cleaning=CleaningConfig(exact_duplicates=True))
    assert len(kept_origins(clean(data))) == 3
    data.cleaning.across_tasks = True
    cleaned = clean(data)
    assert kept_origins(cleaned) == ["train/a.jsonl:1", "train/b.jsonl:2"]
    (line,) = lines_of(cleaned.rejects_file)
    assert line["reason"].endswith(": train/a.jsonl:1")


def test_rows_that_a_rule_left_out_are_nobodys_original(tmp_path: Path) -> None:
    rows = [row(0, id="out"), row(0, id="in")]
    data = write_data(tmp_path, {"qa": rows}, cleaning=CleaningConfig(exact_duplicates=True))
    data.cleaning.drop = ["out"]
    assert [one.row_id for one in kept_records(clean(data))] == ["in"]


# --- ratios


def test_too_many_unreadable_rows_of_a_file_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch, 300, 3)
    empty = {"instruction": "a", "output": ""}
    rows = [row(n) for n in range(12)]
    rows[2], rows[9] = empty, {"input": "x"}
    data = write_data(tmp_path, {"qa": rows, "b": [row(20)] * 9 + [empty]})
    with pytest.raises(DataFault) as caught:
        clean(data)
    assert [one.where for one in caught.value.faults] == [
        "train/b.jsonl:10",
        "train/qa.jsonl:3",
        "train/qa.jsonl:10",
    ]
    assert caught.value.faults[1].seen == "field 'output' is empty"
    assert caught.value.faults[1].rule == (
        "2 of 12 rows are unusable and data.max_reject_ratio is 0"
    )
    data.max_reject_ratio = 0.1
    with pytest.raises(DataFault) as caught:
        clean(data)
    assert {one.where for one in caught.value.faults} == {"train/qa.jsonl:3", "train/qa.jsonl:10"}
    # exactly the share that is allowed; nothing is read again for it
    data.max_reject_ratio = 2 / 12
    reader = Reader(monkeypatch)
    cleaned = clean(data)
    assert reader.read == []
    assert cleaned.rejects() == {
        "b": {"empty_answer": 1},
        "qa": {"empty_answer": 1, "missing_field": 1},
    }
    data.max_reject_ratio = 0.0
    with pytest.raises(DataFault, match="2 of 12 rows are unusable"):
        clean(data)


def test_more_unreadable_rows_than_one_wants_to_see_are_counted(tmp_path: Path) -> None:
    data = write_data(tmp_path, {"qa": [row(0), *[{"instruction": "a", "output": ""}] * 8]})
    with pytest.raises(DataFault) as caught:
        clean(data)
    assert [one.where for one in caught.value.faults] == [
        f"train/qa.jsonl:{n}" for n in range(2, 8)
    ]
    assert caught.value.faults[-1].seen == "and 3 more unusable rows from here on"


def test_rows_that_are_not_selected_count_neither_way(tmp_path: Path) -> None:
    bad = {"instruction": "a", "output": "", "lang": "zh"}
    rows = [row(n, lang="en") for n in range(98)] + [row(98, lang="zh"), bad]
    data = write_data(tmp_path, {"qa": rows}, max_reject_ratio=0.49)
    data.tasks["qa"].sources["main"].where = "lang == 'zh'"
    with pytest.raises(DataFault, match="1 of 2 rows are unusable"):
        clean(data)


def test_cleaning_too_much_of_a_task_stops_with_the_rules(tmp_path: Path) -> None:
    rows = [row(0), N_A, N_A, {"instruction": "b", "output": "```x"}]
    cleaning = CleaningConfig(placeholder=True, open_fence=True)
    data = write_data(tmp_path, {"qa": rows, "b": [row(1), N_A]}, cleaning=cleaning)
    with pytest.raises(DataFault) as caught:
        clean(data)
    (fault,) = caught.value.faults
    assert fault.where == "data.tasks.qa"
    assert fault.seen == "cleaning leaves out 3 of 4 rows (2 placeholder, 1 open_fence)"
    assert fault.rule == "data.cleaning.max_drop_ratio is 0.5"
    (folder,) = (Path(data.cache_dir) / "rows").iterdir()
    assert f"Look at {folder}/" in fault.remedy
    data.cleaning.max_drop_ratio = 0.75
    assert len(kept_origins(clean(data))) == 2


def test_duplicates_count_among_what_cleaning_leaves_out(tmp_path: Path) -> None:
    rows = [row(0)] * 6 + [N_A, row(1)]
    cleaning = CleaningConfig(placeholder=True, exact_duplicates=True)
    data = write_data(tmp_path, {"qa": rows}, cleaning=cleaning)
    with pytest.raises(DataFault) as caught:
        clean(data)
    (fault,) = caught.value.faults
    assert fault.seen == "cleaning leaves out 6 of 8 rows (5 exact_duplicate, 1 placeholder)"
    data.cleaning.max_drop_ratio = 0.75
    assert len(kept_origins(clean(data))) == 2
