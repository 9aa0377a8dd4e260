"""Reading and cleaning of all units: what stays, what is left out and why, once and for all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from data_modules.config import CleaningConfig, DataConfig, SourceConfig, TaskConfig, Unification
from data_modules.prepare import clean_rows, clean_unit
from data_modules.prepare.clean_store import Part
from data_modules.records import Record
from data_modules.sources.units import units_of
from tests.data_modules.prepare.made_data import (
    DUPLICATES,
    N_A,
    Reader,
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
        *("part_000", "rejects.jsonl", "seal.json", "stats.json")
    ]
    (part,) = (tmp_path / "unit").glob("part_*")
    assert isinstance(next(Part.open(part).records()), Record)


def test_a_task_without_training_rows_has_no_parts(tmp_path: Path) -> None:
    data = write_data(tmp_path, {"qa": [row(0)]})
    data.tasks["eval_only"] = TaskConfig({"main": SourceConfig(eval="train/qa.jsonl")})
    cleaned = clean(data)
    assert [part.task for part in cleaned.rows.parts] == ["qa"]
    assert cleaned.rows.right_rows("eval_only").tolist() == []
