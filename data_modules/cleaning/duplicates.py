"""Rows that repeat an earlier row, and training rows that are also evaluation rows.

Workers make the signatures of their part (``data_modules.cleaning.sketches``);
:func:`find_duplicates` then compares all parts in one process. Equal rows have equal 64-bit keys. Similar
rows are found by MinHash and locality-sensitive hashing, and then verified on their texts: *prompt and
answer* must each be similar. Rows that share a long passage and ask different things about it are not
duplicates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from data_modules.cleaning.shingles import NUM_PERM, jaccard
from data_modules.cleaning.sketches import Part, Rows, Texts, mix, set_apart
from data_modules.config import CleaningConfig

EXACT, NEAR, CONTAMINATION = "exact_duplicate", "near_duplicate", "contamination"
_RULES = (EXACT, NEAR, CONTAMINATION)

#: First and last line of two like prompts must be at least this alike themselves: in a prompt of a
#: long passage and a question, only that line says what is asked.
LINE_SIMILARITY = 0.6
#: Rows of one bucket that a row is compared with at most.
MOST_COMPARED = 128
#: Of these, the rows whose texts are looked at: the likest ones by their MinHash values.
MOST_VERIFIED = 4
_BLOCK = 1 << 16


class Finding(NamedTuple):
    """One row that is left out.

    Attributes:
        row: its index, over all parts in order.
        rule: ``exact_duplicate``, ``near_duplicate`` or ``contamination``.
        other: index of the row that stays; for contamination, of the evaluation row.
    """

    row: int
    rule: str
    reason: str
    other: int


@dataclass(frozen=True)
class Findings:
    """F findings as arrays, sorted by row, no row twice; iterates as :class:`Finding`.

    Attributes:
        rows, others: int64 [F].
        rules: uint8 [F], index into the three rules.
        similarity: float32 [F], smaller Jaccard similarity of prompt and answer; 1 where equal.
    """

    rows: np.ndarray
    others: np.ndarray
    rules: np.ndarray
    similarity: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Finding]:
        columns = (self.rows, self.others, self.rules, self.similarity)
        for row, other, rule, alike in zip(*columns, strict=True):
            name = _RULES[rule]
            yield Finding(int(row), name, _reason(name, float(alike)), int(other))


def _reason(rule: str, alike: float) -> str:
    if rule == EXACT:
        return "the same as an earlier row up to case and white space"
    if rule == NEAR:
        return f"prompt and answer are at least {alike:.0%} those of an earlier row"
    if alike == 1:
        return "the prompt is that of an evaluation row up to case and white space"
    return f"{alike:.0%} of the prompt is that of an evaluation row"


def find_duplicates(
    task_ids: np.ndarray,
    parts: Sequence[Part],
    cleaning: CleaningConfig,
    texts_of: Texts,
    eval_parts: Sequence[Part] = (),
    eval_texts_of: Texts | None = None,
) -> Findings:
    """Rows to leave out, by the rules that ``cleaning`` switches on. The first row of equal ones stays.

    Args:
        task_ids: int [N], task of every row; rows of different tasks are compared only with
            ``cleaning.across_tasks``.
        parts: signatures of the rows, in their order, N rows in all; with hashes where
            ``cleaning.near_duplicates`` is set.
        texts_of: row -> its :func:`~data_modules.cleaning.sketches.compared_texts`; asked for
            candidates only.
        eval_parts, eval_texts_of: the same for evaluation rows of all tasks; needed for contamination.
    """
    rows = Rows(parts, texts_of)
    assert len(task_ids) == rows.count, "one task per row"
    out = np.zeros(rows.count, bool)
    found: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(rule: str, where: np.ndarray, others: np.ndarray, alike: np.ndarray) -> None:
        out[where] = True
        found.append((_RULES.index(rule), where, others, alike))

    threshold = cleaning.near_duplicates
    if cleaning.contamination and eval_parts and rows.count:
        evaluation = Rows(eval_parts, eval_texts_of or _no_texts)
        where, others = _equal_prompts(rows, evaluation)
        add(CONTAMINATION, where, others, np.ones(len(where), np.float32))
        if threshold is not None:
            add(CONTAMINATION, *_similar_prompts(rows, evaluation, out, threshold))
    groups = None if cleaning.across_tasks else np.asarray(task_ids)
    if cleaning.exact_duplicates and rows.count:
        where, others = _equal_rows(rows, groups, out)
        add(EXACT, where, others, np.ones(len(where), np.float32))
    if threshold is not None and rows.count:
        add(NEAR, *_similar_rows(rows, groups, out, threshold))
    if not found:
        found.append((0, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32)))
    where = np.concatenate([part[1] for part in found])
    order = np.argsort(where, kind="stable")
    rules = np.concatenate([np.full(len(part[1]), part[0], np.uint8) for part in found])
    return Findings(
        rows=where[order],
        others=np.concatenate([part[2] for part in found])[order],
        rules=rules[order],
        similarity=np.concatenate([part[3] for part in found])[order],
    )


def _no_texts(row: int) -> tuple[str, str]:
    raise AssertionError(f"no way to the texts of evaluation row {row}")


def _runs(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows sorted by key, ascending within equal keys; start and end of every run of two or more."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    new = np.ones(len(keys) + 1, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:-1])
    del ordered
    edges = np.flatnonzero(new)
    starts, ends = edges[:-1], edges[1:]
    several = ends - starts > 1
    return order, starts[several], ends[several]


def _equal_rows(
    rows: Rows, groups: np.ndarray | None, out: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rows with the content key of an earlier row that stays, and that row."""
    keys = rows.column("content_keys")
    if groups is not None:
        mix(keys, groups)
    set_apart(keys, out)
    order, starts, ends = _runs(keys)
    sizes = ends - starts - 1
    first = np.repeat(order[starts], sizes)
    # every place of the runs but their first
    place = np.repeat(starts + 1 - np.cumsum(sizes) + sizes, sizes) + np.arange(sizes.sum())
    return order[place], first


def _equal_prompts(rows: Rows, evaluation: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Rows with the prompt key of an evaluation row, and the first such row."""
    known, first = np.unique(evaluation.column("prompt_keys"), return_index=True)
    keys = rows.column("prompt_keys")
    if not len(known):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    place = np.searchsorted(known, keys)
    place[place == len(known)] = 0
    where = np.flatnonzero(known[place] == keys)
    return where, first[place[where]].astype(np.int64)


def bands_of(threshold: float, values: int) -> list[slice]:
    """The widest bands that overlook at most 1 % of the pairs that are just similar enough.

    Args:
        threshold: Jaccard similarity.
        values: MinHash values per place of a band: 1, or 2 where prompt and answer must both agree.
    """
    for width in range(NUM_PERM // 2, 0, -1):
        count = NUM_PERM // width
        if (1 - threshold ** (values * width)) ** count <= 0.01:
            break
    return [slice(start, start + width) for start in range(0, count * width, width)]


def _least_estimate(threshold: float) -> float:
    """MinHash estimate, three standard errors low, under which texts are not looked at."""
    return threshold - 3 * (threshold * (1 - threshold) / NUM_PERM) ** 0.5


def _like_prompts(
    one: tuple[frozenset[int], ...], other: tuple[frozenset[int], ...], threshold: float
) -> float:
    """Similarity of two prompts; 0 where too small, or where first or last lines ask other things."""
    alike = jaccard(one[0], other[0])
    if alike < threshold:
        return 0.0
    lines = min(jaccard(one[1], other[1]), jaccard(one[2], other[2]))
    return alike if lines >= LINE_SIMILARITY else 0.0


def _similar_prompts(
    rows: Rows, evaluation: Rows, out: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows with nearly an evaluation row's prompt, that row, and the similarity."""
    best: dict[int, tuple[float, int]] = {}
    asked = evaluation.hashes(np.arange(evaluation.count))[:, :NUM_PERM]
    for span in bands_of(threshold, values=1):
        known = evaluation.band(["prompt_hashes"], span, None)
        order = np.argsort(known, kind="stable")
        ordered = known[order]
        keys = rows.band(["prompt_hashes"], span, None)
        first = np.searchsorted(ordered, keys, "left")
        last = np.searchsorted(ordered, keys, "right")
        candidates = np.flatnonzero((last > first) & ~out)
        for start in range(0, len(candidates), _BLOCK):
            block = candidates[start : start + _BLOCK]
            hashes = rows.hashes(block)[:, :NUM_PERM]
            for row, own in zip(block.tolist(), hashes, strict=True):
                others = np.sort(order[first[row] : last[row]][:MOST_COMPARED])
                alike = (asked[others] == own).mean(1)
                close = np.flatnonzero(alike >= _least_estimate(threshold))
                close = close[np.argsort(-alike[close], kind="stable")][:MOST_VERIFIED]
                for other in others[close].tolist():
                    likeness = _like_prompts(
                        rows.shingles_of(row), evaluation.shingles_of(other), threshold
                    )
                    if likeness > best.get(row, (0.0, 0))[0]:
                        best[row] = (likeness, other)
    where = np.array(sorted(best), np.int64)
    others = np.array([best[row][1] for row in where.tolist()], np.int64)
    return where, others, np.array([best[row][0] for row in where.tolist()], np.float32)


def _similar_rows(
    rows: Rows, groups: np.ndarray | None, out: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows like an earlier row that stays, that row, and the smaller similarity."""
    pairs: dict[tuple[int, int], float] = {}
    # a wrong answer is like a right one on purpose
    signs = rows.column("negative").astype(np.uint64)
    signed = signs if groups is None else signs + 2 * groups.astype(np.uint64)
    del signs
    bands = bands_of(threshold, values=2)
    for number, span in enumerate(bands):
        keys = rows.band(["prompt_hashes", "answer_hashes"], span, signed)
        set_apart(keys, out)
        for bucket in _batches(_buckets(rows, keys, bands[number - 1])):
            _compare(rows, bucket, threshold, pairs)
    # In the order of rows: who is like a row that goes itself may stay.
    gone: dict[int, tuple[int, float]] = {}
    for later, earlier in sorted(pairs):
        alike = pairs[later, earlier]
        if later not in gone and earlier not in gone:
            gone[later] = (earlier, alike)
    where = np.array(sorted(gone), np.int64)
    others = np.array([gone[row][0] for row in where.tolist()], np.int64)
    return where, others, np.array([gone[row][1] for row in where.tolist()], np.float32)


def _buckets(rows: Rows, keys: np.ndarray, other_band: slice) -> Iterator[np.ndarray]:
    """Rows with equal keys, ascending; buckets that are too large are parted by one band more."""
    order, starts, ends = _runs(keys)
    for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
        members = order[start:end]
        if len(members) <= MOST_COMPARED:
            yield members
            continue
        for block in range(0, len(members), _BLOCK):
            some = members[block : block + _BLOCK]
            values = rows.hashes(some)
            inner_keys = np.zeros(len(some), np.uint64)
            for place in range(other_band.start, other_band.stop):
                mix(inner_keys, values[:, place])
                mix(inner_keys, values[:, NUM_PERM + place])
            inner, inner_starts, inner_ends = _runs(inner_keys)
            for left, right in zip(inner_starts.tolist(), inner_ends.tolist(), strict=True):
                yield some[inner[left:right]]


def _batches(buckets: Iterator[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """Buckets in lists of about :data:`_BLOCK` rows, whose hashes are then read at once."""
    batch: list[np.ndarray] = []
    size = 0
    for members in buckets:
        batch.append(members)
        size += len(members)
        if size >= _BLOCK:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _compare(
    rows: Rows, buckets: list[np.ndarray], threshold: float, pairs: dict[tuple[int, int], float]
) -> None:
    """Verify the rows of every bucket against earlier ones of it; results are added to ``pairs``."""
    distinct = np.unique(np.concatenate(buckets))
    hashes = rows.hashes(distinct)
    for members in buckets:
        local = hashes[np.searchsorted(distinct, members)]
        _compare_bucket(rows, members, local, threshold, pairs)


def _compare_bucket(
    rows: Rows,
    members: np.ndarray,
    hashes: np.ndarray,
    threshold: float,
    pairs: dict[tuple[int, int], float],
) -> None:
    """Every row against the last :data:`MOST_COMPARED` earlier ones that are like none before them.

    The first row that a row is like is enough: like pairs go to ``pairs``.
    """
    size = min(MOST_COMPARED, len(members))
    heads = np.zeros(size, np.int64)
    head_hashes = np.empty((size, 2, NUM_PERM), np.uint32)
    fewest = _least_estimate(threshold) * NUM_PERM
    count = 0
    for row, own in zip(members.tolist(), hashes.reshape(-1, 2, NUM_PERM), strict=True):
        alike = np.count_nonzero(head_hashes[:count] == own, axis=2).min(axis=1)
        close = np.flatnonzero(alike >= fewest)
        if len(close) > 1:
            close = close[np.argsort(-alike[close], kind="stable")][:MOST_VERIFIED]
        for head in heads[close].tolist():
            likeness = pairs.get((row, head)) or _likeness(rows, row, head, threshold)
            if likeness:
                pairs[row, head] = likeness
                break
        else:
            heads[count % size] = row
            head_hashes[count % size] = own
            count += 1


def _likeness(rows: Rows, row: int, other: int, threshold: float) -> float:
    """Smaller similarity of prompts and of answers; 0 where one is too small."""
    one, two = rows.shingles_of(row), rows.shingles_of(other)
    answers = jaccard(one[3], two[3])
    if answers < threshold:
        return 0.0
    return min(answers, _like_prompts(one, two, threshold))
