"""Evaluation rows: prompts and gold answers of every task that has some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from data_modules.chat import ChatFormat
from data_modules.chat_rendering import TemplateSurprise
from data_modules.config import BoundaryConfig, DataConfig, PromptSet
from data_modules.prepare.tokeniser import Tokeniser
from data_modules.prompt_sets import not_worded, set_records, set_tasks, set_wording
from data_modules.records import Message, Reject
from data_modules.unification import unified
from data_modules.wording import NO_BOUNDARY


@dataclass(frozen=True)
class EvalRow:
    """One evaluation row.

    Attributes:
        prompt_ids, input_ids: tokens of the prompt, and of the whole conversation.
        supervised: bool [len(input_ids)], which of them are the answer's.
        answer: the right one.
        request: the first user turn as it was asked, without tag and constraint.
        language: of the request.
        tests: Python assertions behind an answer that is code; "" if none.
    """

    task: str
    prompt_ids: list[int]
    input_ids: list[int]
    supervised: np.ndarray
    answer: str
    origin: str
    request: str
    language: str
    tests: str = ""


def read_eval_rows(
    data: DataConfig,
    boundary: BoundaryConfig,
    chat: ChatFormat,
    limit: int | None,
    prompt_set: PromptSet = PromptSet.ordinary,
) -> tuple[dict[str, list[EvalRow]], list[Reject]]:
    """Tokenised evaluation rows of one prompt set.

    The first ``limit`` that fit of each task (None takes all). A row longer than ``max_seq_len`` is
    refused, and one that lacks the words which make the set. Where training answers are unified, gold
    answers are in the same format.
    """
    try:
        return _read(data, boundary, chat.for_many_rows(), limit, prompt_set)
    except TemplateSurprise:
        return _read(data, boundary, chat, limit, prompt_set)


def _read(
    data: DataConfig,
    boundary: BoundaryConfig,
    chat: ChatFormat,
    limit: int | None,
    prompt_set: PromptSet,
) -> tuple[dict[str, list[EvalRow]], list[Reject]]:
    records, rejects = set_records(data, prompt_set)
    asking = replace(data, tasks=set_tasks(data.tasks))
    result: dict[str, list[EvalRow]] = {}
    for task, of_task in records.items():
        if data.cleaning.unify:
            of_task = [unified(record, data.tasks[task]) for record in of_task]
        wording = set_wording(data, boundary, prompt_set, task)
        tokeniser = Tokeniser(asking, wording, chat)
        bare = Tokeniser(asking, replace(wording, boundary=NO_BOUNDARY), chat)
        words = [tokeniser.worded(record) for record in of_task]
        rows: list[EvalRow] = []
        for record, one, (ids, mask) in zip(
            of_task, words, tokeniser.encode(of_task, words), strict=True
        ):
            if len(ids) > data.max_seq_len:
                reason = f"{len(ids)} tokens, data.max_seq_len is {data.max_seq_len}"
                rejects.append(Reject(task, record.origin, "overlong", reason, ""))
                continue
            lacking = not_worded(wording, prompt_set, one)
            if lacking:
                rejects.append(Reject(task, record.origin, "not_worded", lacking, ""))
                continue
            prompt = chat.prompt(one.messages[:-1])
            request = _first_user_turn(bare.worded(record).messages)
            rows.append(
                EvalRow(
                    task,
                    prompt,
                    ids,
                    mask,
                    record.answer,
                    record.origin,
                    request,
                    record.language,
                    record.tests,
                )
            )
        result[task] = list(islice(rows, limit))
    return result, rejects


def _first_user_turn(messages: Sequence[Message]) -> str:
    return next(message.content for message in messages if message.role == "user")
