"""Records -> samples in one wording: rendered, tokenised, and refused where nothing is left to train."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path

import numpy as np

from data_modules.chat import ChatFormat, Encoded
from data_modules.config import BoundaryConfig, DataConfig, Overlong
from data_modules.faults import DataFault
from data_modules.mixture import PromptConfig
from data_modules.negatives import negative_mask
from data_modules.records import Message, Record, Reject
from data_modules.rejects import RejectCounts, add_counts, record_text
from data_modules.samples import Sample, key_of
from data_modules.wording import Worded, WordingCounts, worded

# Rule under which a sample that is kept, cut short, is listed among the rejects.
TRUNCATED = "truncated"

# Records that are rendered and tokenised in one call.
BATCH_ROWS = 1_000


@dataclass(frozen=True)
class Wording:
    """How a phase words its requests."""

    phase: str
    boundary: BoundaryConfig
    prompts: PromptConfig
    seed: int


@dataclass
class TokenStats:
    """What tokenising did: refused rows, by task and rule, and how the others were worded."""

    rejects: RejectCounts = field(default_factory=dict)
    wording: WordingCounts = field(default_factory=WordingCounts)

    def merge(self, other: TokenStats) -> None:
        """Add another part's counts."""
        self.rejects = add_counts([self.rejects, other.rejects])
        self.wording.merge(other.wording)

    def write(self, path: Path) -> None:
        """Keep the counts as JSON."""
        values = {"rejects": self.rejects, "wording": self.wording.as_json()}
        path.write_text(json.dumps(values), encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> TokenStats:
        """What :meth:`write` kept."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(values["rejects"], WordingCounts.from_json(values["wording"]))


class Tokeniser:
    """Words, renders and tokenises records for one wording."""

    def __init__(self, data: DataConfig, wording: Wording, chat: ChatFormat) -> None:
        self.data, self.wording, self.chat = data, wording, chat

    def worded(self, record: Record) -> Worded:
        """The record as the phase words it."""
        wording = self.wording
        return worded(
            record,
            self.data.tasks,
            wording.boundary,
            wording.prompts,
            wording.phase,
            wording.seed,
        )

    def encode(self, records: Sequence[Record], words: Sequence[Worded]) -> list[Encoded]:
        """Token ids of worded records.

        Raises:
            DataFault: the chat template cannot render a record; names its line.
        """
        conversations = [one.messages for one in words]
        try:
            return self.chat.encode_many(conversations)
        except DataFault:
            return [self._encode(*one) for one in zip(records, conversations, strict=True)]

    def _encode(self, record: Record, messages: tuple[Message, ...]) -> Encoded:
        try:
            return self.chat.encode(messages)
        except DataFault as fault:
            raise DataFault(
                [replace(one, seen=f"{record.origin}: {one.seen}") for one in fault.faults]
            ) from fault

    def samples(
        self, records: Iterable[Record], stats: TokenStats, rejects: list[Reject]
    ) -> Iterator[Sample]:
        """Samples of records, in order; what has nothing to train on becomes a reject."""
        rest = iter(records)
        while batch := list(islice(rest, BATCH_ROWS)):
            yield from self._batch(batch, stats, rejects)

    def _batch(
        self, records: Sequence[Record], stats: TokenStats, rejects: list[Reject]
    ) -> Iterator[Sample]:
        words = [self.worded(record) for record in records]
        encoded = self.encode(records, words)  # first: its faults name the row
        contrasts = iter(self._contrasts(records, words))
        for record, one, (ids, mask) in zip(records, words, encoded, strict=True):
            if record.negative:
                mask = self._negative_mask(
                    ids, mask, next(contrasts) if record.contrast is not None else None
                )
            refusal = self._refusal(ids, mask)
            if refusal is not None:
                rules = stats.rejects.setdefault(record.task, {})
                rules[refusal[0]] = rules.get(refusal[0], 0) + 1
                text = record_text(record)
                rejects.append(Reject(record.task, record.origin, *refusal, text, record.row_id))
                if refusal[0] != TRUNCATED:
                    continue
            stats.wording.add(record.task, one)
            yield self._sample(record, ids, mask)

    def _sample(self, record: Record, ids: list[int], mask: np.ndarray) -> Sample:
        cut = self.data.max_seq_len
        request = "\x1e".join(message.content for message in record.messages[:-1])
        return Sample(
            record.task,
            ids[:cut],
            mask[:cut],
            -1 if record.negative else 1,
            record.source,
            record.language,
            1.0 if record.quality is None else record.quality,
            key_of(record.task, record.row_id),
            key_of(record.task, request),
        )

    def _contrasts(self, records: Sequence[Record], words: Sequence[Worded]) -> list[Encoded]:
        """Encodings of the negatives' requests with the answers that theirs are compared with."""
        return self.chat.encode_many(
            [
                (*one.messages[:-1], Message("assistant", record.contrast))
                for record, one in zip(records, words, strict=True)
                if record.negative and record.contrast is not None
            ]
        )

    def _negative_mask(
        self, ids: list[int], mask: np.ndarray, contrast: Encoded | None
    ) -> np.ndarray:
        answer = _last_answer(mask)
        right = None if contrast is None else contrast[0][_last_answer(contrast[1])]
        result = np.zeros(len(ids), dtype=bool)
        result[answer] = negative_mask(right, ids[answer], self.data.negatives.supervise)
        return result

    def _refusal(self, ids: list[int], mask: np.ndarray) -> tuple[str, str] | None:
        limit = self.data.max_seq_len
        if len(ids) > limit and self.data.overlong is Overlong.drop:
            return "overlong", f"{len(ids)} tokens, data.max_seq_len is {limit}"
        if not mask[:limit].any():
            return "all_masked", f"no token to train on in the first {limit} of {len(ids)} tokens"
        if len(ids) > limit:
            return TRUNCATED, f"{len(ids)} tokens cut to {limit}"
        return None


def _last_answer(mask: np.ndarray) -> slice:
    """The last supervised run of a conversation."""
    supervised = np.flatnonzero(mask)
    breaks = np.flatnonzero(np.diff(supervised) > 1)
    first = supervised[breaks[-1] + 1] if len(breaks) else supervised[0]
    return slice(int(first), int(supervised[-1]) + 1)
