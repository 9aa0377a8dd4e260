"""Which rows share a batch, and what becomes of new ids."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_modules.evaluation_rows import EvalRow
from trainer.evaluation.generate import Answer, RowLimits, answer_of, schedule


def row(prompt: int, right: int) -> EvalRow:
    """A row of so many tokens."""
    ids = [7] * (prompt + right)
    return EvalRow("qa", ids[:prompt], ids, np.ones(len(ids), bool), "", "", "", "en")


LENGTHS = st.tuples(st.integers(1, 9), st.integers(1, 40), st.sampled_from([4, 8, 64]))


@given(st.lists(LENGTHS, min_size=1, max_size=40), st.integers(1, 7))
def test_every_row_is_in_one_batch_and_all_but_the_last_are_full(
    lengths: list[tuple[int, int, int]], batch_size: int
) -> None:
    rows = [row(prompt, right) for prompt, right, _ in lengths]
    limits = [limit for _, _, limit in lengths]
    batches = schedule(rows, limits, batch_size)
    assert sorted(index for batch in batches for index in batch) == list(range(len(rows)))
    assert {len(batch) for batch in batches[:-1]} <= {batch_size}
    longest = [max(limits[index] for index in batch) for batch in batches]
    assert longest == sorted(longest, reverse=True)


def test_rows_of_like_limits_then_answers_then_prompts_share_a_batch() -> None:
    # (prompt, right answer, limit); 5, 6 and 7 tokens are alike, 8 are not
    given = [(3, 6, 8), (9, 5, 8), (9, 8, 8), (1, 7, 8), (5, 6, 8), (2, 5, 64), (2, 8, 8)]
    rows = [row(prompt, right) for prompt, right, _ in given]
    assert schedule(rows, [limit for _, _, limit in given], 2) == [[5, 2], [6, 1], [4, 0], [3]]


def test_each_row_of_a_batch_has_its_own_limit() -> None:
    ends = RowLimits(torch.tensor([5, 7, 6]))
    assert ends(torch.zeros(3, 5), None).tolist() == [True, False, False]
    assert ends(torch.zeros(3, 6), None).tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("ids", "text", "finished"),
    [([5, 6, 1, 0], "5 6", True), ([5, 6], "5 6", False), ([1], "", True), ([], "", False)],
)
def test_what_is_behind_the_end_token_is_no_answer(
    ids: list[int], text: str, finished: bool
) -> None:
    def decode(ids: list[int], **_: bool) -> str:
        return " ".join(map(str, ids)) + " "

    tokenizer = SimpleNamespace(eos_token_id=1, decode=decode)
    assert answer_of(3, ids, tokenizer) == Answer(3, text, finished)
