"""Reading and cleaning of all units: what stays, what is left out and why, once and for all."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_modules.config import CleaningConfig, DataConfig, SourceConfig, TaskConfig, Unification
from data_modules.faults import DataFault
from data_modules.prepare import clean_rows, clean_unit
from data_modules.prepare.clean_store import Part
from data_modules.records import Record
from data_modules.sources.units import Unit, units_of
from tests.data_modules.prepare.made_data import (
    clean,
    counted,
    kept_origins,
    kept_records,
    lines_of,
    row,
    small_pieces,
    write_data,
)
from tests.shared_data import write_rows

STRICT = {"placeholder": True, "open_fence": True, "max_answer_chars": 400}
DUPLICATES = {"exact_duplicates": True, "near_duplicates": 0.8}
N_A = {"instruction": "what", "output": "N/A"}


def mixed_rows(count: int) -> list[dict[str, Any]]:
    """Every fifth row has nothing to say."""
    return [row(n, **({"output": "N/A"} if n % 5 == 4 else {})) for n in range(count)]


# --- units and parts


@pytest.mark.parametrize("part_rows", [1, 3, 8, 1000])
@pytest.mark.parametrize("unit_bytes", [1, 700, 1 << 20])
def test_pieces_make_no_difference(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part_rows: int, unit_bytes: int
) -> None:
    small_pieces(monkeypatch, unit_bytes, part_rows)
    data = write_data(tmp_path, {"qa": mixed_rows(20), "code": mixed_rows(7)})
    data.cleaning = CleaningConfig(placeholder=True)
    cleaned = clean(data)
    good = {"code": [n for n in range(7) if n % 5 < 4], "qa": [n for n in range(20) if n % 5 < 4]}
    assert [(record.task, record.origin) for record in kept_records(cleaned)] == [
        (task, f"train/{task}.jsonl:{n + 1}") for task, numbers in good.items() for n in numbers
    ]
    assert max(part.rows for part in cleaned.rows.parts) <= part_rows
    assert cleaned.rows.starts[-1] == 22
    assert (len(cleaned.units) > 2) == (unit_bytes < 1 << 20)
    assert cleaned.rejects() == {"qa": {"placeholder": 4}, "code": {"placeholder": 1}}
    assert [(one["origin"], one["rule"]) for one in lines_of(cleaned.rejects_file)] == [
        ("train/code.jsonl:5", "placeholder"),
        *((f"train/qa.jsonl:{n}", "placeholder") for n in (5, 10, 15, 20)),
    ]


def test_parts_are_bounded_by_characters_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean_unit, "PART_CHARS", 250)
    cleaned = clean(write_data(tmp_path, {"qa": [row(n) for n in range(10)]}))
    assert [part.rows for part in cleaned.rows.parts] == [2] * 5


def test_a_record_comes_back_as_it_was_read(tmp_path: Path) -> None:
    turns = [
        {"role": role, "content": f'{role}\n中 "{n}"'}
        for n, role in enumerate(("system", "user", "assistant", "user", "assistant"))
    ]
    rows = [
        {"messages": turns, "id": "a", "quality": 0.25, "rejected": "bad"},
        {"instruction": "i", "input": "x", "output": "y", "negative": True, "behaves_like": "code"},
    ]
    one, two = kept_records(clean(write_data(tmp_path, {"qa": rows})))
    assert [(m.role, m.content) for m in one.messages] == [
        (turn["role"], turn["content"]) for turn in turns
    ]
    assert (one.row_id, one.origin, one.source) == ("a", "train/qa.jsonl:1", "main")
    assert (one.quality, one.rejected, one.negative, one.instruction) == (0.25, "bad", False, None)
    assert (two.row_id, two.negative, two.behaves_like) == ("train/qa.jsonl:2", True, "code")
    assert (two.instruction, two.request, two.answer) == ("i", "i\nx", "y")


def test_rows_get_language_and_quality_and_their_format(tmp_path: Path) -> None:
    rows = [
        {"instruction": "请把这句话说得更清楚一些。", "output": "好的，<b>没有</b>问题。"},
        {"instruction": "Please explain the weather to me.", "output": "It is __fine__."},
    ]
    data = write_data(tmp_path, {"qa": rows}, cleaning=CleaningConfig(unify=True))
    data.tasks["qa"].unify = [Unification.bold]
    cleaned = clean(data)
    found = kept_records(cleaned)
    assert [record.language for record in found] == ["zh", "en"]
    assert all(0 < (record.quality or 0) <= 1 for record in found)
    assert [record.answer for record in found] == ["好的，**没有**问题。", "It is **fine**."]
    assert cleaned.units[0].unified == 2
    data.cleaning.unify = False
    assert [record.answer for record in kept_records(clean(data))] == [
        one["output"] for one in rows
    ]


def test_a_wrong_answer_is_neither_judged_nor_rewritten(tmp_path: Path) -> None:
    rows = [{"instruction": "a", "output": "N/A", "negative": True}, N_A]
    cleaned = clean(
        write_data(tmp_path, {"qa": rows}, cleaning=CleaningConfig(placeholder=True, unify=True))
    )
    assert kept_origins(cleaned) == ["train/qa.jsonl:1"]
    assert cleaned.units[0].negatives == 1
    assert cleaned.rows.right_rows("qa").tolist() == []


def test_fetching_finds_rows_over_all_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch, 1 << 20, 3)
    cleaned = clean(write_data(tmp_path, {"qa": [row(n) for n in range(10)], "b": [row(99)]}))
    found = cleaned.rows.fetch([9, 0, 4, 9])
    assert {number: one.origin for number, one in found.items()} == {
        0: "train/b.jsonl:1",
        4: "train/qa.jsonl:4",
        9: "train/qa.jsonl:9",
    }
    assert cleaned.rows.fetch([]) == {}
    assert cleaned.rows.right_rows("qa").tolist() == list(range(1, 11))


def test_nothing_left_is_no_error_here(tmp_path: Path) -> None:
    cleaning = CleaningConfig(placeholder=True, max_drop_ratio=1.0)
    cleaned = clean(write_data(tmp_path, {"qa": [N_A]}, cleaning=cleaning))
    assert cleaned.rows.parts == ()
    assert cleaned.rows.right_rows("qa").tolist() == []
    assert cleaned.rejects() == {"qa": {"placeholder": 1}}


# --- resuming


class Reader:
    """Reads units and notes which; breaks off in the middle of one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.breaks_at: int | None = None
        self.read: list[int] = []
        self._real = clean_unit.read_unit
        monkeypatch.setattr(clean_unit, "read_unit", self)

    def __call__(self, unit: Unit, source: SourceConfig) -> Iterator[Any]:
        self.read.append(unit.first_line)
        for number, item in enumerate(self._real(unit, source)):
            if unit.first_line == self.breaks_at and number == 1:
                raise OSError("the disk is gone")
            yield item


def test_a_run_that_broke_off_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch, 500, 2)
    data = write_data(tmp_path, {"qa": mixed_rows(20)}, cleaning=CleaningConfig(**DUPLICATES))
    whole = kept_origins(clean(data))
    shutil.rmtree(data.cache_dir)

    reader = Reader(monkeypatch)
    clean(data)
    starts = reader.read
    assert len(starts) > 4
    assert len(whole) == 20
    shutil.rmtree(data.cache_dir)

    reader.read, reader.breaks_at = [], starts[2]
    with pytest.raises(OSError, match="the disk is gone"):
        clean(data)
    assert reader.read == starts[:3]
    (folder,) = (Path(data.cache_dir) / "rows").iterdir()
    assert sorted(path.name for path in folder.iterdir()) == ["unit_00000", "unit_00001"]
    # One that was killed outright leaves its scratch folder.
    shutil.copytree(folder / "unit_00000", folder / "unit_00002.tmpkilled")

    reader.read, reader.breaks_at = [], None
    assert kept_origins(clean(data)) == whole
    assert reader.read == starts[2:], "finished units are not read again"

    reader.read = []
    assert kept_origins(clean(data)) == whole
    assert reader.read == []


def test_a_run_that_broke_off_while_comparing_compares_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row(0), row(1), row(0)]
    data = write_data(tmp_path, {"qa": rows}, cleaning=CleaningConfig(exact_duplicates=True))
    real = clean_rows.compare_rows

    def broken(*arguments: Any) -> Iterator[Any]:
        yield from real(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(clean_rows, "compare_rows", broken)
    with pytest.raises(KeyboardInterrupt):
        clean(data)
    monkeypatch.setattr(clean_rows, "compare_rows", real)
    reader = Reader(monkeypatch)
    cleaned = clean(data)
    assert reader.read == []
    assert cleaned.compared == {"qa": {"exact_duplicate": 1}}
    assert len(lines_of(cleaned.rejects_file)) == 1


def test_two_hosts_may_write_the_same_rejects_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "one").write_text("a\n")
    (tmp_path / "two").write_text("b\n")
    files, target = [tmp_path / "one", tmp_path / "two"], tmp_path / "all.jsonl"
    real = shutil.copyfileobj

    def other_host(*arguments: Any) -> None:
        monkeypatch.setattr(shutil, "copyfileobj", real)
        clean_rows.join_files(files, target)
        real(*arguments)

    monkeypatch.setattr(shutil, "copyfileobj", other_host)
    clean_rows.join_files(files, target)
    assert target.read_text() == "a\nb\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["all.jsonl", "one", "two"]


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


# --- counts


def everything(root: Path) -> DataConfig:
    """Rows of every fate, from two sources in several files."""
    rows: list[Any] = [row(n, lang="en") for n in range(30)]
    for n in (3, 13, 23):
        rows[n] = row(n, lang="en", output="N/A")
    for n in (4, 14):
        rows[n] = row(n, lang="en", output="")
    for n in (5, 15):
        rows[n] = row(n, lang="zh")
    rows[6] = rows[0]
    rows[7] = row(7, lang="en", output="```open")
    rows[8] = row(8, lang="en", id="dropped")
    rows[9] = row(9, lang="en", negative=True)
    rows[10] = row(10, lang="en", rejected="no")
    cleaning = CleaningConfig(contamination=True, drop=["dropped"], **STRICT, **DUPLICATES)
    data = write_data(root, {"qa": rows, "b": [row(n) for n in range(40, 45)]}, cleaning=cleaning)
    data.max_reject_ratio = 0.5
    main = data.tasks["qa"].sources["main"]
    main.where = "lang == 'en'"
    write_rows(root / "eval/qa.jsonl", [row(20, output="x", lang="en")])
    main.eval = "eval/qa.jsonl"
    for name in ("x", "y"):
        write_rows(root / f"more/{name}.jsonl", [row(100 + ord(name)), N_A, row(1, lang="en")])
    data.tasks["qa"].sources["more"] = SourceConfig(train="more/*.jsonl")
    return data


def test_counts_add_up_and_every_left_out_row_is_listed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_pieces(monkeypatch, 900, 4)
    data = everything(tmp_path)
    cleaned = clean(data)
    for unit in cleaned.units:
        assert unit.read == (
            unit.not_selected
            + sum(unit.unreadable.values())
            + sum(unit.rejects.values())
            + unit.kept
        )
    of_qa = [unit for unit in cleaned.units if unit.task == "qa"]
    assert sum(unit.read for unit in of_qa) == 36
    assert sum(unit.not_selected for unit in of_qa) == 2
    assert sum(unit.negatives for unit in of_qa) == 2
    lines = lines_of(cleaned.rejects_file)
    assert (
        cleaned.rejects()
        == counted(lines)
        == {
            "qa": {
                "placeholder": 5,
                "empty_answer": 2,
                "open_fence": 1,
                "forced_drop": 1,
                "exact_duplicate": 3,
                "contamination": 1,
            }
        }
    )
    assert all(one["reason"] and one["row"] and one["row_id"] for one in lines)
    origins = [one["origin"] for one in lines]
    assert len(set(origins)) == len(origins)
    kept = kept_origins(cleaned)
    assert len(kept) == len(cleaned.rows.keep) - sum(cleaned.compared["qa"].values())
    not_selected = {"train/qa.jsonl:6", "train/qa.jsonl:16"}
    whole = {
        *(f"train/qa.jsonl:{n + 1}" for n in range(30)),
        *(f"train/b.jsonl:{n + 1}" for n in range(5)),
        *(f"more/{name}.jsonl:{n + 1}" for name in "xy" for n in range(3)),
    }
    assert sorted([*kept, *origins, *not_selected]) == sorted(whole)
    by_rule = {
        rule: sorted(one["origin"] for one in lines if one["rule"] == rule)
        for rule in ("exact_duplicate", "contamination", "empty_answer")
    }
    assert by_rule == {
        "exact_duplicate": ["more/x.jsonl:3", "more/y.jsonl:3", "train/qa.jsonl:7"],
        "contamination": ["train/qa.jsonl:21"],
        "empty_answer": ["train/qa.jsonl:15", "train/qa.jsonl:5"],
    }


def test_a_cleaned_run_opens_as_it_was_made(tmp_path: Path) -> None:
    data = everything(tmp_path)
    one, two = clean(data), clean(data)
    assert one.fingerprint == two.fingerprint
    assert one.units == two.units
    assert one.compared == two.compared
    assert one.rows.parts == two.rows.parts
    assert one.rows.keep.tolist() == two.rows.keep.tolist()
    for part in two.rows.parts:
        assert Part.open(part.folder) == part


def test_one_unit_is_only_opened_when_it_is_finished(tmp_path: Path) -> None:
    data = write_data(tmp_path, {"qa": mixed_rows(10)}, cleaning=CleaningConfig(placeholder=True))
    (unit,) = units_of(data, ["qa"], "train")
    job = clean_unit.CleanJob(unit, data.tasks, data.cleaning, tmp_path / "unit")
    stats = clean_unit.clean_unit(job)
    assert (stats.read, stats.kept, stats.rejects) == (10, 8, {"placeholder": 2})
    (tmp_path / "train/qa.jsonl").unlink()
    assert clean_unit.clean_unit(job) == stats
    assert sorted(path.name for path in (tmp_path / "unit").iterdir()) == [
        *("part_000", "rejects.jsonl", "stats.json")
    ]
    (part,) = (tmp_path / "unit").glob("part_*")
    assert isinstance(next(Part.open(part).records()), Record)


def test_a_task_without_training_rows_has_no_parts(tmp_path: Path) -> None:
    data = write_data(tmp_path, {"qa": [row(0)]})
    data.tasks["eval_only"] = TaskConfig({"main": SourceConfig(eval="train/qa.jsonl")})
    cleaned = clean(data)
    assert [part.task for part in cleaned.rows.parts] == ["qa"]
    assert cleaned.rows.right_rows("eval_only").tolist() == []
