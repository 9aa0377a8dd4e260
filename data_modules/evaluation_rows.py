"""Evaluation rows: prompts and gold answers of every task that has some."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import numpy as np

from data_modules.chat import ChatFormat
from data_modules.config import BoundaryConfig, DataConfig
from data_modules.mixture import PromptConfig
from data_modules.prepare.evaluation_records import read_eval_records
from data_modules.prepare.tokeniser import Tokeniser, Wording
from data_modules.records import Reject
from data_modules.unification import unified


@dataclass(frozen=True)
class EvalRow:
    """One evaluation row: the prompt's and the whole conversation's tokens, and the gold answer."""

    task: str
    prompt_ids: list[int]
    input_ids: list[int]
    supervised: np.ndarray
    answer: str
    origin: str


def read_eval_rows(
    data: DataConfig, boundary: BoundaryConfig, chat: ChatFormat, limit: int | None
) -> tuple[dict[str, list[EvalRow]], list[Reject]]:
    """Tokenised evaluation rows.

    The first ``limit`` that fit of each task (None takes all); a row longer than ``max_seq_len`` is
    refused. Prompts carry the boundary texts, and neither cues nor paraphrases. Where training answers
    are unified, gold answers are in the same format.
    """
    records, rejects = read_eval_records(data)
    tokeniser = Tokeniser(data, Wording("", boundary, PromptConfig(), 0), chat)
    result: dict[str, list[EvalRow]] = {}
    for task, of_task in records.items():
        if data.cleaning.unify:
            of_task = [unified(record, data.tasks[task]) for record in of_task]
        words = [tokeniser.worded(record) for record in of_task]
        rows: list[EvalRow] = []
        for record, one, (ids, mask) in zip(
            of_task, words, tokeniser.encode(of_task, words), strict=True
        ):
            if len(ids) > data.max_seq_len:
                reason = f"{len(ids)} tokens, data.max_seq_len is {data.max_seq_len}"
                rejects.append(Reject(task, record.origin, "overlong", reason, ""))
                continue
            prompt = chat.prompt(one.messages[:-1])
            rows.append(EvalRow(task, prompt, ids, mask, record.answer, record.origin))
        result[task] = list(islice(rows, limit))
    return result, rejects
