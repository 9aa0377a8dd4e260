"""Records -> a :class:`SampleStore`, tokenised once and cached by fingerprint."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from data_modules.boundary import bounded
from data_modules.chat import ChatFormat
from data_modules.config import BoundaryConfig, DataConfig, Overlong, TaskConfig
from data_modules.faults import DataFault
from data_modules.reading import source_path
from data_modules.records import Message, Record, Reject
from data_modules.samples import SampleStore

# Part of every cache key: raise it when the same inputs would give other tokens.
FORMAT_VERSION = 3

# Rule under which a sample that is kept, cut short, is listed among the rejects.
TRUNCATED = "truncated"

NO_BOUNDARY = BoundaryConfig(tag=False, constraint=False)


def tokenise(
    tasks: tuple[str, ...],
    records: Mapping[str, list[Record]],
    data: DataConfig,
    boundary: BoundaryConfig,
    chat: ChatFormat,
) -> tuple[SampleStore, list[Reject]]:
    """Tokenise all records.

    Args:
        tasks: all task names, which the store's task ids index into.
        records: usable rows of those that are trained on.

    Returns:
        The samples, and a reject (rule ``overlong`` or ``all_masked``) for every record without one;
        samples cut to ``data.max_seq_len`` are listed too (rule ``truncated``).
    """
    rejects: list[Reject] = []

    def samples() -> Iterator[tuple[int, list[int], np.ndarray]]:
        for task_id, task in enumerate(tasks):
            for record in records.get(task, []):
                _, ids, mask = encode(record, data.tasks[task], boundary, chat)
                reason = _refusal(ids, mask, data)
                if reason is None and len(ids) > data.max_seq_len:
                    reason = (TRUNCATED, f"{len(ids)} tokens cut to {data.max_seq_len}")
                if reason is not None:
                    row = record.messages[0].content
                    rejects.append(Reject(task, record.origin, *reason, row))
                if reason is None or reason[0] == TRUNCATED:
                    yield task_id, ids[: data.max_seq_len], mask[: data.max_seq_len]

    return SampleStore.build(tasks, samples()), rejects


def encode(
    record: Record, task: TaskConfig, boundary: BoundaryConfig, chat: ChatFormat
) -> tuple[tuple[Message, ...], list[int], np.ndarray]:
    """A record's bounded messages, their token ids and which of those are supervised.

    Raises:
        DataFault: the chat template cannot render the record; names the record's line.
    """
    messages = bounded(record.messages, task, boundary)
    try:
        return messages, *chat.encode(messages)
    except DataFault as fault:
        raise DataFault(
            [replace(one, seen=f"{record.origin}: {one.seen}") for one in fault.faults]
        ) from fault


def _refusal(ids: list[int], mask: np.ndarray, data: DataConfig) -> tuple[str, str] | None:
    if len(ids) > data.max_seq_len and data.overlong is Overlong.drop:
        return "overlong", f"{len(ids)} tokens, data.max_seq_len is {data.max_seq_len}"
    if not mask[: data.max_seq_len].any():
        where = f"in the first {data.max_seq_len} of {len(ids)} tokens"
        return "all_masked", f"no token to train on {where}"
    return None


def store_fingerprint(
    data: DataConfig, trained_tasks: tuple[str, ...], boundary: BoundaryConfig, tokenizer: Any
) -> str:
    """sha256 of everything the tokens depend on, hex."""
    digest = hashlib.sha256(f"store-{FORMAT_VERSION}".encode())
    digest.update(tokenizer.backend_tokenizer.to_str().encode())
    texts = {
        "template": tokenizer.chat_template,
        "special": [tokenizer.bos_token, tokenizer.eos_token],
        "boundary": asdict(boundary),
        "max_seq_len": data.max_seq_len,
        "overlong": data.overlong.value,
        "tasks": {name: [task.tag, task.constraint] for name, task in data.tasks.items()},
        "trained_tasks": trained_tasks,
    }
    digest.update(json.dumps(texts, sort_keys=True).encode())
    for task in trained_tasks:
        _hash_file(digest, source_path(data, data.tasks[task].source.train))
    return digest.hexdigest()


def _hash_file(digest: Any, path: Path) -> None:
    with path.open("rb") as file:
        digest.update(hashlib.file_digest(file, "sha256").digest())
