"""Generation: the same bytes every time, streams named and not numbered, one folder for all."""

from __future__ import annotations

import json
import multiprocessing
from collections import Counter
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest

from data_modules.benchmark import (
    ALL_TASKS,
    CUES,
    GENERAL,
    SPEC_FILE,
    SPLITS,
    TASK_ROWS,
    TASKS,
    BenchmarkSpec,
    generate,
    is_correct,
    parse_payload,
    rows,
    skill_of,
)
from data_modules.benchmark.instructions import (
    HELD_OUT_COMBINATIONS,
    TRAIN_COMBINATIONS,
    read_instruction,
)

SMALL = BenchmarkSpec(multiplier=0.1, general_rows=20, eval_rows=5, base_rows=30)


def contents(root: Path) -> dict[str, bytes]:
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file()
    }


def read(root: Path, name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (root / name).read_text(encoding="utf-8").splitlines()]


def test_the_folder_is_complete_and_the_same_byte_for_byte(tmp_path: Path) -> None:
    first, second = generate(SMALL, tmp_path / "a"), generate(SMALL, tmp_path / "b")
    assert contents(first) == contents(second)
    names = set(contents(first))
    assert {f"{split}/{task}.jsonl" for split in SPLITS for task in ALL_TASKS} <= names
    assert {"train/base.jsonl", "spec.json", "tokenizer/tokenizer.json"} <= names
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]
    assert len(read(first, "train/base.jsonl")) == 30
    cells = read(first, "train/base_cells.jsonl")
    assert len(cells) == 30 // 20
    assert {skill_of(row["instruction"]) for row in cells} == {"pairs"}
    assert len(read(first, "train/general.jsonl")) == 20
    assert len(read(first, "train/qa.jsonl")) == 60
    assert len(read(first, "eval_conflict/code.jsonl")) == 5
    assert contents(generate(replace(SMALL, seed=1), tmp_path / "c")) != contents(first)


def test_rows_are_pinned() -> None:
    """If this fails the bytes have changed: raise FORMAT_VERSION, then write the new rows here."""
    row = {task: next(rows(BenchmarkSpec(), "train", task)) for task in ("qa", GENERAL)}
    assert row == PINNED


PINNED: dict[str, dict[str, str]] = {
    "qa": {
        "task": "qa",
        "instruction": "say then figure",
        "input": "p_7 y_5 l_6 t_4 @ l ?",
        "output": "ans 6 .",
    },
    "general": {
        "task": "general",
        "instruction": "display amounts",
        "input": "o_3 a_5 q_6 k_1 w_2 @ a",
        "output": "sure ! 5",
    },
}


def test_rows_have_four_fields_and_right_answers() -> None:
    for split in SPLITS:
        for task in ALL_TASKS:
            for row in islice(rows(BenchmarkSpec(), split, task), 30):
                assert list(row) == ["task", "instruction", "input", "output"]
                assert row["task"] == task
                assert is_correct(task, row, row["output"])


def test_the_default_counts_are_the_tables() -> None:
    spec = BenchmarkSpec()
    assert sum(spec.rows_of(task) for task in TASKS) == 2400
    assert spec.rows_of("code") == 90
    assert sum(TASK_ROWS.values()) == 1200


def test_more_rows_of_one_task_change_no_other_file_and_keep_its_own_rows(tmp_path: Path) -> None:
    small = contents(generate(SMALL, tmp_path / "small"))
    more = replace(SMALL, task_rows={**TASK_ROWS, "code": 450}, general_rows=40)
    grown = contents(generate(more, tmp_path / "more"))
    changed = {"train/code.jsonl", "train/general.jsonl", SPEC_FILE}
    assert {name for name in small if small[name] != grown[name]} == changed
    for name in changed - {SPEC_FILE}:
        assert grown[name].startswith(small[name])
        assert len(grown[name]) > len(small[name])


def test_leaving_out_a_task_count_means_its_default() -> None:
    assert BenchmarkSpec(task_rows={"qa": 7}, multiplier=1).rows_of("math") == TASK_ROWS["math"]


def test_streams_differ_between_tasks_splits_seeds_and_the_base_corpus() -> None:
    spec = BenchmarkSpec()
    inputs = [
        tuple(row["input"].split("@")[0] for row in islice(stream, 5))
        for stream in (
            *(rows(spec, split, task) for split in SPLITS for task in ALL_TASKS),
            rows(replace(spec, seed=1), "train", "qa"),
            rows(spec, "train", GENERAL, stream_name="base"),
        )
    ]
    assert len(set(inputs)) == len(inputs)


def test_no_payload_is_both_trained_on_and_evaluated() -> None:
    # Two cells, so that chance alone would give many collisions.
    spec = BenchmarkSpec(min_cells=2, max_cells=2)
    seen = {
        split: {row["input"].split(" @")[0] for row in islice(rows(spec, split, "qa"), 1500)}
        for split in ("train", "eval", "eval_paraphrase")
    }
    assert not seen["train"] & (seen["eval"] | seen["eval_paraphrase"])
    assert seen["eval"] & seen["eval_paraphrase"]


def test_payload_sizes_are_uniform() -> None:
    sizes = Counter(
        len(parse_payload(row["input"])[0].letters)
        for row in islice(rows(BenchmarkSpec(), "train", "qa"), 3000)
    )
    assert set(sizes) == {3, 4, 5}
    # 3,000 / 3 = 1,000 with a standard deviation of 26.
    assert all(870 < seen < 1130 for seen in sizes.values())


@pytest.mark.parametrize("task", TASKS)
def test_cues_agree_in_nine_of_ten_training_rows_and_never_in_the_conflict_set(task: str) -> None:
    def cues(split: str, count: int) -> Counter[str | None]:
        return Counter(
            parse_payload(row["input"])[1]
            for row in islice(rows(BenchmarkSpec(), split, task), count)
        )

    train = cues("train", 1000)
    # Standard deviation 0.0095.
    assert train[CUES[task]] / 1000 == pytest.approx(0.9, abs=0.04)
    assert set(train) == {CUES[task], None}
    conflict = cues("eval_conflict", 200)
    assert CUES[task] not in conflict
    assert None not in conflict
    if CUES[task] == "?":
        assert len(conflict) > 1
    else:
        assert set(conflict) == {"?"}


def test_general_rows_carry_no_cue_but_in_the_conflict_set() -> None:
    for split in SPLITS:
        cues = {parse_payload(r["input"])[1] for r in islice(rows(SMALL, split, GENERAL), 100)}
        assert cues == ({"?"} if split == "eval_conflict" else {None})


def test_paraphrases_are_new_sentences_without_new_words() -> None:
    assert len(TRAIN_COMBINATIONS) == 5
    assert len(set(TRAIN_COMBINATIONS) | set(HELD_OUT_COMBINATIONS)) == 9
    assert not set(TRAIN_COMBINATIONS) & set(HELD_OUT_COMBINATIONS)
    for task in TASKS:
        said = {
            split: {
                read_instruction(row["instruction"])
                for row in islice(rows(BenchmarkSpec(), split, task), 100)
            }
            for split in SPLITS
        }
        assert len(said["train"]) == 5
        assert said["eval"] == said["train"]
        assert len(said["eval_paraphrase"]) == 4
        assert said["eval_conflict"] == said["eval_paraphrase"]
        assert not said["train"] & said["eval_paraphrase"]
        for place in (0, 1):
            words = [{pair[place] for pair in said[s]} for s in ("train", "eval_paraphrase")]
            assert words[1] <= words[0]


def test_a_complete_copy_is_reused_and_also_under_an_equivalent_spec(tmp_path: Path) -> None:
    root = generate(SMALL, tmp_path / "bench")
    stamp = (root / SPEC_FILE).stat().st_mtime_ns
    assert generate(SMALL, root) == root
    counts = {task: SMALL.rows_of(task) for task in TASKS}
    assert generate(replace(SMALL, multiplier=1, task_rows=counts), root) == root
    assert (root / SPEC_FILE).stat().st_mtime_ns == stamp


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "bench").mkdir()
    assert (generate(SMALL, tmp_path / "bench") / SPEC_FILE).is_file()


def test_another_spec_is_refused_and_both_are_named(tmp_path: Path) -> None:
    root = generate(SMALL, tmp_path / "bench")
    before = contents(root)
    with pytest.raises(ValueError, match=r'another spec.*"seed": 0.*Wanted:.*"seed": 5'):
        generate(replace(SMALL, seed=5), root)
    assert contents(root) == before


def test_a_damaged_copy_is_refused_by_file_name(tmp_path: Path) -> None:
    root = generate(SMALL, tmp_path / "bench")
    (root / "train" / "qa.jsonl").write_text("")
    (root / "eval" / "code.jsonl").unlink()
    with pytest.raises(ValueError, match=r"eval/code\.jsonl, train/qa\.jsonl"):
        generate(SMALL, root)


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(ValueError, match="no benchmark folder"):
        generate(SMALL, tmp_path)
    assert contents(tmp_path) == {"thesis.txt": b"mine"}


def test_processes_that_generate_at_once_share_one_copy(tmp_path: Path) -> None:
    root = tmp_path / "deep" / "bench"
    with multiprocessing.get_context("fork").Pool(4) as pool:
        found = pool.starmap(generate, [(SMALL, root)] * 4)
    assert found == [root] * 4
    assert [path.name for path in root.parent.iterdir()] == ["bench"]
    assert contents(root) == contents(generate(SMALL, tmp_path / "alone"))


def test_faulty_specs_are_refused_with_all_faults(tmp_path: Path) -> None:
    spec = BenchmarkSpec(eval_rows=-1, cue_probability=1.5, max_cells=11, task_rows={"poetry": 1})
    with pytest.raises(ValueError, match="BenchmarkSpec") as error:
        generate(spec, tmp_path / "bench")
    for name in ("eval_rows=-1", "cue_probability=1.5", "max_cells=11", "'poetry'"):
        assert name in str(error.value)
    assert not (tmp_path / "bench").exists()


def test_unknown_split_and_task_are_refused() -> None:
    with pytest.raises(ValueError, match="split 'dev'"):
        next(rows(SMALL, "dev", "qa"))
    with pytest.raises(ValueError, match="task 'poetry'"):
        next(rows(SMALL, "train", "poetry"))
