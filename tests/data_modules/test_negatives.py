"""Negatives: what is made of which rows, and which tokens of them are pushed away from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_modules.config import NegativeRowsConfig, Supervise
from data_modules.negatives import (
    Choice,
    Fetch,
    Kind,
    choose_negatives,
    explicit_negatives,
    made_negatives,
    negative_mask,
)
from data_modules.records import Message, Record

BOTH = NegativeRowsConfig(cross_task=0.5, swapped_instruction=0.25)


def record(task: str, place: int, **settings: object) -> Record:
    """An alpaca row with an input."""
    given_: dict[str, object] = {
        "messages": (
            Message("user", f"{task} this:\ninput {task}{place}"),
            Message("assistant", f"answer {task}{place}"),
        ),
        "origin": f"{task}.jsonl:{place + 1}",
        "row_id": str(place),
        "source": f"{task}-source",
        "instruction": f"{task} this:",
        "quality": 0.5,
    }
    return Record(task, **(given_ | settings))  # type: ignore[arg-type]


def pairs(choice: Choice) -> set[tuple[str, str, int, str, int]]:
    names = choice.tasks
    return {
        (Kind(kind).name, names[task], row, names[other], other_row)
        for kind, task, row, other, other_row in zip(
            choice.kinds.tolist(),
            choice.task_ids.tolist(),
            choice.rows.tolist(),
            choice.other_ids.tolist(),
            choice.other_rows.tolist(),
            strict=True,
        )
    }


def made(
    counts: Mapping[str, int], config: NegativeRowsConfig, fetch: Fetch = record, seed: int = 0
) -> list[Record]:
    return list(made_negatives(choose_negatives(counts, config, seed), fetch))


# --- from the files


def test_a_rejected_answer_becomes_a_negative_of_the_same_request() -> None:
    row = record("qa", 3, rejected="wrong")
    (wrong,) = explicit_negatives(row)
    assert wrong.messages == (row.messages[0], Message("assistant", "wrong"))
    assert (wrong.negative, wrong.rejected, wrong.row_id) == (True, None, "3#rejected")
    assert (wrong.contrast, wrong.task, wrong.origin) == (row.answer, "qa", row.origin)
    assert wrong.quality is None, "the score is the right answer's"


def test_a_negative_row_is_itself_one() -> None:
    row = record("qa", 0, negative=True, behaves_like="code")
    assert explicit_negatives(row) == [row]


def test_other_rows_bring_none() -> None:
    assert explicit_negatives(record("qa", 0)) == []
    assert explicit_negatives(record("qa", 0, rejected=" answer   qa0\n")) == []


# --- which rows


@given(
    counts=st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 40), max_size=6),
    cross=st.floats(0, 3),
    swapped=st.floats(0, 3),
)
def test_counts_are_the_shares_and_no_pair_comes_twice(
    counts: dict[str, int], cross: float, swapped: float
) -> None:
    config = NegativeRowsConfig(cross, swapped)
    choice = choose_negatives(counts, config, 1)
    filled = [task for task in counts if counts[task]]
    for kind, share in ((Kind.cross_task, cross), (Kind.swapped_instruction, swapped)):
        for place, task in enumerate(choice.tasks):
            mine = (choice.kinds == kind) & (choice.task_ids == place)
            most = counts[task] * (len(filled) - 1)
            assert mine.sum() == min(round(share * counts[task]), most)
            times = np.bincount(choice.rows[mine], minlength=counts[task])
            assert times.max() - times.min() <= 1
    assert (choice.task_ids != choice.other_ids).all()
    sizes = np.array([counts[task] for task in choice.tasks] or [0])
    assert (choice.rows < sizes[choice.task_ids]).all()
    assert (choice.other_rows < sizes[choice.other_ids]).all()
    met = Counter(zip(choice.kinds, choice.task_ids, choice.rows, choice.other_ids, strict=True))
    assert not met or max(met.values()) == 1


def test_all_other_tasks_and_all_their_rows_come_alike() -> None:
    counts = {task: 6000 for task in "abcd"} | {"e": 100}
    choice = choose_negatives(counts, NegativeRowsConfig(cross_task=1.0), 0)
    mine = choice.task_ids == 0
    partners = np.bincount(choice.other_ids[mine], minlength=5)
    assert partners[0] == 0
    # four standard deviations of 6000 draws with chance 1/4
    assert np.abs(partners[1:] - 1500).max() < 4 * np.sqrt(6000 * 3 / 16)
    of_b = choice.other_rows[mine & (choice.other_ids == 1)]
    assert abs(of_b.mean() - 2999.5) < 4 * 6000 / np.sqrt(12 * len(of_b))
    assert set(choice.other_rows[choice.other_ids == 4]) == set(range(100))


@pytest.mark.parametrize("share", [0.5, 1.0, 2.0])
def test_a_task_more_changes_only_the_pairs_it_takes(share: float) -> None:
    config = NegativeRowsConfig(share, share)
    few, more = {"a": 300, "c": 200, "d": 100}, {"a": 300, "b": 400, "c": 200, "d": 100}
    before, after = (pairs(choose_negatives(counts, config, 0)) for counts in (few, more))
    kept = {pair for pair in after if "b" not in (pair[1], pair[3])}
    assert kept <= before
    # the newcomer takes a fair part: one of now three partners a row, `share` of them a row
    assert len(before - kept) == pytest.approx(2 * 600 * share / 3, rel=0.2)


def test_the_order_of_tasks_does_not_matter_and_the_seed_does() -> None:
    one = pairs(choose_negatives({"a": 50, "b": 60, "c": 70}, BOTH, 0))
    assert one == pairs(choose_negatives({"c": 70, "a": 50, "b": 60}, BOTH, 0))
    other = pairs(choose_negatives({"a": 50, "b": 60, "c": 70}, BOTH, 1))
    assert len(one & other) < len(one) / 4


def test_more_rows_than_are_drawn_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, config = {"a": 100, "b": 30, "c": 71}, NegativeRowsConfig(1.4, 0.3)
    whole = pairs(choose_negatives(counts, config, 0))
    monkeypatch.setattr("data_modules.negatives._CHUNK", 16)
    assert pairs(choose_negatives(counts, config, 0)) == whole


def test_one_task_alone_has_no_other() -> None:
    assert len(choose_negatives({"a": 10}, BOTH, 0)) == 0
    assert len(choose_negatives({"a": 10, "b": 0}, BOTH, 0)) == 0


# --- what is made of them


def test_cross_task_negatives() -> None:
    rows = made({"qa": 20, "code": 8, "math": 8}, NegativeRowsConfig(cross_task=0.5))
    assert Counter(row.task for row in rows) == {"qa": 10, "code": 4, "math": 4}
    for row in rows:
        place, like = row.row_id.split("#as_")
        own = record(row.task, int(place))
        assert row.messages[:-1] == own.messages[:-1]
        assert row.answer.startswith(f"answer {like}")
        assert (row.negative, row.behaves_like, row.contrast) == (True, like, own.answer)
        assert (row.origin, row.source, row.quality) == (own.origin, own.source, None)


def test_swapped_instructions_belong_to_the_task_whose_instruction_they_carry() -> None:
    counts = {"qa": 20, "code": 8, "math": 8}
    rows = made(counts, NegativeRowsConfig(swapped_instruction=0.5))
    assert Counter(row.behaves_like for row in rows) == {"qa": 10, "code": 4, "math": 4}
    for row in rows:
        place, like = row.row_id.split("#from_")
        own = record(like, int(place))
        assert row.behaves_like == like != row.task
        assert row.request == f"{row.task} this:\ninput {like}{place}"
        assert row.instruction == f"{row.task} this:"
        assert (row.answer, row.origin) == (own.answer, own.origin)
        assert row.source == f"{row.task}-source"
        assert row.contrast is not None
        assert row.contrast.startswith(f"answer {row.task}")
        assert row.negative


def test_ids_are_the_row_s_and_differ() -> None:
    rows = made({task: 30 for task in "abcd"}, NegativeRowsConfig(3.0, 3.0))
    assert len(rows) == 4 * 30 * 3 * 2
    assert len({(row.task, row.row_id) for row in rows}) == len(rows)


def test_an_answer_equal_to_the_right_one_is_never_a_negative() -> None:
    def yes_or_no(task: str, place: int) -> Record:
        answer = "yes" if place % 2 else " yes \n" if place % 4 else "no"
        messages = (record(task, place).messages[0], Message("assistant", answer))
        return record(task, place, messages=messages)

    rows = made({"a": 40, "b": 40}, NegativeRowsConfig(1.0, 1.0), yes_or_no)
    assert len(rows) == 160
    for row in rows:
        assert row.contrast is not None
        assert row.answer.split() != row.contrast.split()


def test_where_no_answer_differs_none_is_made() -> None:
    def same(task: str, place: int) -> Record:
        messages = (record(task, place).messages[0], Message("assistant", "ok"))
        return record(task, place, messages=messages)

    assert made({"a": 40, "b": 40}, NegativeRowsConfig(1.0, 1.0), same) == []


def test_swapping_needs_an_input_here_and_an_instruction_there() -> None:
    def mixed(task: str, place: int) -> Record:
        if task == "chat":  # a conversation: no instruction kept apart
            return record(task, place, instruction=None)
        if place % 2:  # an instruction without an input
            messages = (Message("user", f"{task} this:"), record(task, place).messages[1])
            return record(task, place, messages=messages)
        return record(task, place)

    rows = made({"chat": 10, "code": 10, "qa": 10}, NegativeRowsConfig(0.0, 2.0), mixed)
    # Even rows of code under qa's instructions and the other way round; chat neither gives nor takes.
    got = Counter((row.task, row.behaves_like) for row in rows)
    assert got == {("code", "qa"): 5, ("qa", "code"): 5}
    assert all(int(row.row_id.split("#")[0]) % 2 == 0 for row in rows)


def test_the_other_task_s_system_message_comes_with_its_instruction() -> None:
    def spoken(task: str, place: int) -> Record:
        system = Message("system", f"You do {task}.")
        return record(task, place, messages=(system, *record(task, place).messages))

    for row in made({"a": 4, "b": 4}, NegativeRowsConfig(1.0, 1.0), spoken):
        assert row.messages[0].content == f"You do {row.task}."
        assert [message.role for message in row.messages] == ["system", "user", "assistant"]


def test_earlier_turns_are_kept_and_never_swapped() -> None:
    def talk(task: str, place: int) -> Record:
        turns = record(task, place).messages
        again = (Message("user", "and now?"), Message("assistant", f"later {task}{place}"))
        return record(task, place, messages=(*turns, *again))

    rows = made({"a": 4, "b": 4}, NegativeRowsConfig(1.0, 1.0), talk)
    assert len(rows) == 8
    for row in rows:
        assert row.messages[:3] == talk(row.task, int(row.row_id[0])).messages[:3]
        assert row.answer.startswith(f"later {row.behaves_like}")


def test_workers_make_the_same_in_parts() -> None:
    choice = choose_negatives({"a": 30, "b": 20, "c": 10}, BOTH, 0)
    whole = list(made_negatives(choice, record))
    parts = [choice.part(start, start + 7) for start in range(0, len(choice), 7)]
    assert [one for part in parts for one in made_negatives(part, record)] == whole


# --- which tokens


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ([7, 8, 9, 2], [7, 8, 5, 9, 2], [0, 0, 1, 0, 0]),
        ([7, 2], [5, 2], [1, 0]),
        # stops too early, and too late: the end token, and what stands in its place
        ([7, 8, 2], [7, 2], [0, 1]),
        ([7, 2], [7, 8, 2], [0, 1, 0]),
        (None, [5, 6, 2], [1, 0, 0]),
        ([], [5, 2], [1, 0]),
        # equal, or cut off inside the right answer
        ([7, 8, 2], [7, 8, 2], [0, 0, 0]),
        ([7, 8, 2], [7, 8], [0, 0]),
    ],
)
def test_the_first_difference(
    right: list[int] | None, wrong: list[int], expected: list[int]
) -> None:
    mask = negative_mask(right, wrong, Supervise.first_difference)
    assert mask.dtype == np.bool_
    assert mask.tolist() == [bool(one) for one in expected]
    answer = negative_mask(right, np.array(wrong), Supervise.answer)
    assert answer.tolist() == [any(expected)] * len(wrong)
