"""Equal and similar rows, contamination, their order and their cost."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_modules.cleaning import (
    Findings,
    compared_texts,
    find_duplicates,
    load_signatures,
    save_signatures,
    signatures,
)
from data_modules.cleaning.duplicates import bands_of
from data_modules.cleaning.shingles import (
    NUM_PERM,
    jaccard,
    minhashes,
    normalised,
    shingle_set,
    shingles,
)
from data_modules.config import CleaningConfig
from data_modules.records import Message, Record

PASSAGE = (
    "The lighthouse at Cape Wrath was built in 1828 by Robert Stevenson and manned until 1998, when it "
    "was converted to automatic operation by the Northern Lighthouse Board. It stands on the most "
    "north-westerly point of the mainland, above cliffs of more than one hundred metres. "
)
SKY = "请解释一下为什么天空在白天是蓝色的，而在日落时是红色的？"


def row(request: str, answer: str, task: str = "qa", **fields: Any) -> Record:
    return Record(task, (Message("user", request), Message("assistant", answer)), "r:1", **fields)


def find(
    records: Sequence[Record], evaluation: Sequence[Record] = (), parts: int = 2, **settings: Any
) -> list[tuple[int, str, int]]:
    """Findings of rows in several parts."""
    config = CleaningConfig(**settings)
    near = config.near_duplicates is not None
    names = sorted({record.task for record in records})
    tasks = np.array([names.index(record.task) for record in records])
    cuts = [len(records) * part // parts for part in range(parts + 1)]
    found = find_duplicates(
        tasks,
        [signatures(records[a:b], near) for a, b in pairwise(cuts)],
        config,
        lambda index: compared_texts(records[index]),
        [signatures(evaluation, near)],
        lambda index: compared_texts(evaluation[index]),
    )
    assert all(finding.reason for finding in found)
    return [(finding.row, finding.rule, finding.other) for finding in found]


def test_equal_rows_up_to_case_and_white_space() -> None:
    records = [
        row("What is it?", "A cat."),
        row("What is it?", "A dog."),
        row("what  is it?\n", "a CAT."),
        row("What is it?", "A cat.", task="chat"),
        row("What is it?", "A cat.", negative=True),
        row("What is it?", "A cat.", rejected="A cow."),
        row("What is it?", "A cat. "),
    ]
    expected = [(2, "exact_duplicate", 0), (6, "exact_duplicate", 0)]
    assert find(records, exact_duplicates=True) == expected
    assert find(records, exact_duplicates=True, parts=7) == expected
    everywhere = find(records, exact_duplicates=True, across_tasks=True)
    assert everywhere == [expected[0], (3, "exact_duplicate", 0), expected[1]]
    assert find(records) == []


def test_a_border_between_prompt_and_answer_is_kept() -> None:
    assert find([row("a b", "c"), row("a", "b c")], exact_duplicates=True) == []


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        # small edits of both
        (
            ("How do I plant a cherry tree in my garden?", "Dig a hole, put the tree in, and water it."),
            ("How do I plant a cherry tree in my garden??", "Dig a hole, put the tree in, and water it!"),
            True,
        ),
        (
            (SKY, "因为大气对短波长的蓝光散射得更强，而日落时光程更长。"),
            (SKY.replace("，", ","), "因为大气对短波长的蓝光散射得更强，而日落时光程更长."),
            True,
        ),
        # one passage, two questions; long answers or a short one that is the same
        (
            (PASSAGE + "\nWho built it?", "It was Robert Stevenson."),
            (PASSAGE + "\nWhen was it automated?", "In 1998."),
            False,
        ),
        (
            ("Was it built before 1900?\n" + PASSAGE, "Yes"),
            ("Is it on the mainland?\n" + PASSAGE, "Yes"),
            False,
        ),
        # the same question, another answer
        (("How do I plant a tree?", "Dig a hole."), ("How do I plant a tree?", "Ask me."), False),
        # another number
        (("What is 17 + 25?", "42"), ("What is 17 + 26?", "43"), False),
    ],
)  # fmt: skip
def test_near_duplicates_are_alike_in_prompt_and_answer(
    one: tuple[str, str], two: tuple[str, str], expected: bool
) -> None:
    found = find([row(*one), row(*two)], near_duplicates=0.75)
    assert found == ([(1, "near_duplicate", 0)] if expected else [])


def test_near_duplicates_keep_negatives_and_other_tasks() -> None:
    first = "How do I plant a cherry tree in my own back garden?"
    answer = "Dig a hole, put the tree in, fill it up and water it well."
    records = [
        row(first, answer),
        row(first, answer + ".", task="chat"),
        row(first, answer + "!", negative=True),
    ]
    assert find(records, near_duplicates=0.8) == []
    found = find(records, near_duplicates=0.8, across_tasks=True)
    assert found == [(1, "near_duplicate", 0)]


def test_a_row_like_a_dropped_one_only_stays() -> None:
    """Duplicates are of rows that stay: C is like B, not like A, and B goes for A."""
    base = [f"word{place}" for place in range(60)]
    one, two, three = (
        " ".join([*base[shift:], *(f"new{place}" for place in range(shift))])
        for shift in (0, 6, 12)
    )
    alike = [
        jaccard(shingle_set(a), shingle_set(b)) for a, b in ((one, two), (two, three), (one, three))
    ]
    threshold = 0.75
    assert alike[0] > threshold < alike[1]
    assert alike[2] < threshold
    records = [row("Go on.", text) for text in (one, two, three)]
    assert find(records, near_duplicates=threshold) == [(1, "near_duplicate", 0)]


def test_every_similar_pair_is_found_as_by_brute_force() -> None:
    """300 rows with edits of all sizes: LSH finds what comparing all pairs finds, and nothing else."""
    chance = random.Random(7)
    vocabulary = ["".join(chance.choices("abcdefghij", k=chance.randint(2, 8))) for _ in range(300)]
    words = [[chance.choice(vocabulary) for _ in range(40)] for _ in range(100)]
    records = []
    for text in words:
        for edits in (0, 1, 4):
            copy = list(text)
            for _ in range(edits):
                copy[chance.randrange(40)] = chance.choice(vocabulary)
            records.append(row(" ".join(copy[:20]), " ".join(copy[20:])))
    sets = [tuple(map(shingle_set, compared_texts(record))) for record in records]
    gone: dict[int, int] = {}
    for later in range(len(records)):
        for earlier in range(later):
            pair = zip(sets[later], sets[earlier], strict=True)
            if earlier not in gone and min(jaccard(a, b) for a, b in pair) >= 0.8:
                gone[later] = earlier
                break
    assert 80 < len(gone) < 200
    found = find(records, near_duplicates=0.8, parts=3)
    assert {row: other for row, _, other in found} == gone


def test_contamination_is_found_in_every_task() -> None:
    long = "Please explain in simple words why the sky is blue during the day and red at sunset."
    evaluation = [row("Who wrote Hamlet?", "Shakespeare"), row(long, "Scattering.", task="chat")]
    records = [
        row("who wrote  hamlet?", "I think it was Marlowe.", task="chat"),
        row("Who wrote Macbeth?", "Shakespeare"),
        row(long.replace("simple", "simpler"), "Because."),
        row("x", "y", negative=True),
        row("Who wrote Hamlet?", "Bacon", negative=True),
    ]
    exact = find(records, evaluation, contamination=True)
    assert exact == [(0, "contamination", 0), (4, "contamination", 0)]
    near = find(records, evaluation, contamination=True, near_duplicates=0.85)
    assert near == [exact[0], (2, "contamination", 1), exact[1]]
    assert find(records, evaluation, exact_duplicates=True) == []


def test_contamination_by_another_question_on_the_passage_is_none() -> None:
    evaluation = [row("Who built it?\n" + PASSAGE, "Robert Stevenson")]
    records = [
        row("When was it automated?\n" + PASSAGE, "1998"),
        row("Who built it?\n" + PASSAGE + ".", "S"),
    ]
    found = find(records, evaluation, contamination=True, near_duplicates=0.85)
    assert found == [(1, "contamination", 0)]


def test_a_system_turn_hides_no_contamination() -> None:
    turns = (Message("system", "Be brief."), Message("user", "Who?"), Message("assistant", "I."))
    records = [row("Who?", "I."), Record("qa", turns, "r:2")]
    evaluation = [row("Who?", "He.")]
    assert [one[0] for one in find(records, evaluation, contamination=True)] == [0, 1]
    assert find(records, exact_duplicates=True) == []


def test_no_rows_and_no_evaluation_rows() -> None:
    settings = CleaningConfig(exact_duplicates=True, near_duplicates=0.8, contamination=True)
    empty = find_duplicates(np.empty(0, int), [], settings, lambda _: ("", ""))
    assert list(empty) == []
    assert (
        find([row("a", "b")], [], exact_duplicates=True, contamination=True, near_duplicates=0.8)
        == []
    )


def test_saved_signatures_give_the_same(tmp_path: Path) -> None:
    records = [row(f"Question {i % 7}?", f"Answer {i % 7}.") for i in range(40)]
    arrays = [signatures(records[:20], True), signatures(records[20:], True), signatures([], True)]
    for place, part in enumerate(arrays):
        save_signatures(tmp_path / str(place), part)
    loaded = [load_signatures(tmp_path / str(place)) for place in range(3)]
    assert set(loaded[0]) == set(arrays[0])
    settings = CleaningConfig(exact_duplicates=True, near_duplicates=0.9)

    def run(parts: Sequence[Any]) -> Findings:
        tasks = np.zeros(40, int)
        return find_duplicates(tasks, parts, settings, lambda index: compared_texts(records[index]))

    assert list(run(arrays)) == list(run(loaded))
    assert len(run(loaded)) == 33
    assert load_signatures(tmp_path / "0")["prompt_hashes"].shape == (NUM_PERM, 20)


@pytest.mark.parametrize(
    "text", ["the quick brown fox jumps over", "敏捷的棕色狐狸跳过懒狗", "a", "", "中a文b"]
)
def test_shingles_depend_on_their_text_alone(text: str) -> None:
    alone = shingles([text])[0]
    hashes, offsets = shingles(["before", text, "後ろ", ""])
    assert hashes[offsets[1] : offsets[2]].tolist() == alone.tolist()
    assert offsets.tolist() == [0, 2, 2 + len(alone), 3 + len(alone), 3 + len(alone)]


def test_shingles_are_pairs_of_chinese_and_fives_of_other_characters() -> None:
    counts = {"abcdefg": 3, "abcd": 1, "敏捷的狐狸": 4, "敏": 1, "": 0, "中abcde": 2}
    assert {text: len(shingles([text])[0]) for text in counts} == counts
    assert len(set(shingles(["abcdeabcde"])[0].tolist())) == 5


def test_minhash_estimates_jaccard() -> None:
    """Of 200 pairs of texts the mean error is small and the bias next to none."""
    chance = random.Random(3)
    errors = []
    for _ in range(200):
        words = [str(chance.randrange(10**6)) for _ in range(60)]
        cut = chance.randrange(60)
        other = [*words[:cut], *(str(chance.randrange(10**6)) for _ in range(60 - cut))]
        one, two = " ".join(words), " ".join(other)
        estimate = (minhashes([one])[0] == minhashes([two])[0]).mean()
        errors.append(estimate - jaccard(shingle_set(one), shingle_set(two)))
    assert abs(np.mean(errors)) < 0.02
    assert np.abs(errors).mean() < 0.08


@pytest.mark.parametrize("threshold", [0.5, 0.7, 0.8, 0.9, 0.99])
@pytest.mark.parametrize("values", [1, 2])
def test_bands_overlook_one_percent_at_most(threshold: float, values: int) -> None:
    bands = bands_of(threshold, values)
    width = bands[0].stop - bands[0].start
    assert len(
        {*range(NUM_PERM)} & {place for band in bands for place in range(band.start, band.stop)}
    ) == (width * len(bands))
    missed = (1 - threshold ** (values * width)) ** len(bands)
    assert missed <= 0.01 or width == 1


def test_normalised() -> None:
    assert normalised("  A\tB\n\nc ") == "a b c"


def test_200_000_rows_of_which_half_are_equal_take_seconds() -> None:
    """Equal rows in large clusters, too: one key has 50,000 rows."""
    count = 200_000
    chance = np.random.default_rng(5)
    keys = np.arange(count, dtype=np.uint64)
    keys[:50_000] = 1
    keys[50_000:100_000] = keys[100_000:150_000]
    chance.shuffle(keys)
    part = {"content_keys": keys, "prompt_keys": keys, "negative": np.zeros(count, bool)}
    settings = CleaningConfig(exact_duplicates=True)
    start = time.perf_counter()
    found = find_duplicates(np.zeros(count, int), [part], settings, lambda _: ("", ""))
    assert time.perf_counter() - start < 5
    seen: dict[int, int] = {}
    expected = [
        (place, seen[key])
        for place, key in enumerate(keys.tolist())
        if seen.setdefault(key, place) != place
    ]
    assert list(zip(found.rows.tolist(), found.others.tolist(), strict=True)) == expected
    assert len(expected) == 99_999


def test_a_large_cluster_of_like_rows_is_not_compared_pair_by_pair() -> None:
    """2,000 rows of one template make 2 million pairs; a small part of them is looked at."""
    template = "Classify the customer's message into one of the intents: pay, stop, ask. Message: "
    records = [row(template + f"{place * 7919 % 100_003} {place}", "pay") for place in range(2_000)]
    asked = 0

    def texts_of(index: int) -> tuple[str, str]:
        nonlocal asked
        asked += 1
        return compared_texts(records[index])

    settings = CleaningConfig(near_duplicates=0.95)
    parts = [signatures(records, True)]
    start = time.perf_counter()
    find_duplicates(np.zeros(len(records), int), parts, settings, texts_of)
    assert time.perf_counter() - start < 60
    assert asked < 20 * len(records)
