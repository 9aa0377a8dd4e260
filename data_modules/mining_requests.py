"""Training requests put to a model to find its leaks, worded as the hard prompt sets word theirs.

Evaluation rows are never among them, nor the wordings that are kept for evaluation: what is found here
is trained on later.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from data_modules.cleaning.shingles import normalised
from data_modules.cleaning.sketches import compared_texts
from data_modules.config import DataConfig, PromptSet
from data_modules.evaluation_rows import EvalRow
from data_modules.mixture import PromptConfig
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare.tokeniser import Tokeniser, Wording
from data_modules.prompt_sets import set_records
from data_modules.records import Message, Record
from data_modules.seeding import generator
from data_modules.wording import NO_BOUNDARY, Worded

#: Sources of mined rows are named so, and the phase: their rows are not mined again.
MINED = "mined"

_PROMPTS = {
    PromptSet.ordinary: PromptConfig(),
    PromptSet.paraphrase: PromptConfig(paraphrase_share=1.0),
    PromptSet.conflict: PromptConfig(cue_share=1.0),
    PromptSet.no_tag: PromptConfig(),
}


@dataclass(frozen=True)
class MiningRequest:
    """A training row's request as it is put to the model.

    Attributes:
        messages: the conversation up to the answer, as worded, without tag and constraint.
        cue_of: the task whose cue it carries; "" if none.
        row: the same, tokenised with the boundary that the prompt set has.
    """

    record: Record
    prompt_set: PromptSet
    messages: tuple[Message, ...]
    cue_of: str
    row: EvalRow


def mining_requests(
    data: PhaseDataModule,
    phase: str,
    prompt_sets: Sequence[PromptSet],
    rows_per_task: int,
) -> dict[str, list[MiningRequest]]:
    """Requests of every specialised task, from up to ``rows_per_task`` of its rows, one per prompt set.

    Which rows depends on the run's seed and the task's name alone. A row is left out of a set that does
    not change it: no other task has a cue, or no template fits. Rows that ask what an evaluation row
    asks, rows of sources of mined rows and rows that are too long are passed over.

    Raises:
        DataFault: as preparing the data does.
    """
    held_out = evaluation_requests(data.data)
    asked: dict[str, list[MiningRequest]] = {}
    for task in data.trained_tasks:
        if not data.data.tasks[task].general:
            records = _sampled(data, task, rows_per_task, held_out)
            asked[task] = [
                request
                for prompt_set in prompt_sets
                for request in _asked(data, phase, prompt_set, records, held_out)
            ]
    return asked


def evaluation_requests(data: DataConfig) -> frozenset[str]:
    """What the evaluation rows of all prompt sets ask, up to case and white space."""
    return frozenset(
        _asks(record)
        for prompt_set in PromptSet
        for of_task in set_records(data, prompt_set)[0].values()
        for record in of_task
    )


def _asks(record: Record) -> str:
    return normalised(compared_texts(record)[0])


def _sampled(
    data: PhaseDataModule, task: str, count: int, held_out: frozenset[str]
) -> list[Record]:
    clean = data.cleaned.rows
    rows = clean.right_rows(task)
    order = generator(data.seed, "mining", task).permutation(len(rows))
    found: list[Record] = []
    for start in range(0, len(rows), max(count, 64)):
        part = rows[order[start : start + max(count, 64)]]
        records = clean.fetch(part)
        found += [
            record
            for record in (records[int(row)] for row in part)
            if not record.source.startswith(MINED) and _asks(record) not in held_out
        ]
        if len(found) >= count:
            break
    return found[:count]


def _asked(
    data: PhaseDataModule,
    phase: str,
    prompt_set: PromptSet,
    records: Sequence[Record],
    held_out: frozenset[str],
) -> Iterator[MiningRequest]:
    boundary = NO_BOUNDARY if prompt_set is PromptSet.no_tag else data.boundary_of(phase)
    prompts = _PROMPTS[prompt_set]
    wording = Wording(f"mining/{prompt_set.value}", boundary, prompts, data.seed)
    tokeniser = Tokeniser(data.data, wording, data.chat)
    bare = Tokeniser(data.data, replace(wording, boundary=NO_BOUNDARY), data.chat)
    plain = [bare.worded(record) for record in records]
    kept = [
        (record, one)
        for record, one in zip(records, plain, strict=True)
        if _is_changed(one, prompts)
        and _asks(replace(record, messages=one.messages)) not in held_out
    ]
    words = [tokeniser.worded(record) for record, _ in kept]
    encoded = tokeniser.encode([record for record, _ in kept], words)
    for (record, one), asked, (ids, mask) in zip(kept, words, encoded, strict=True):
        if len(ids) <= data.data.max_seq_len:
            yield MiningRequest(
                record,
                prompt_set,
                one.messages[:-1],
                one.cue_of,
                EvalRow(
                    record.task,
                    data.chat.prompt(asked.messages[:-1]),
                    ids,
                    np.asarray(mask),
                    record.answer,
                    record.origin,
                    record.request,
                    record.language,
                ),
            )


def _is_changed(row: Worded, prompts: PromptConfig) -> bool:
    """Whether the row has what its prompt set is about."""
    return (not prompts.cue_share or bool(row.cue_of)) and (
        not prompts.paraphrase_share or row.paraphrased
    )
