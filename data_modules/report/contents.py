"""What a report holds: plain values, so that ``report.json`` and a report in memory are the same.

Rows add up: ``read`` = ``not_selected`` + ``unreadable`` + all ``rejects`` + ``kept``. Of the kept rows
``overlong`` and ``all_masked`` give no sample; ``truncated`` ones do, cut short.
"""

from __future__ import annotations

from typing import TypedDict

QUALITY_EDGES: list[float] = [step / 20 for step in range(21)]


class Histogram(TypedDict):
    """Counts of values in [edges[i], edges[i + 1]); the last bin holds its upper edge too.

    ``edges`` is one longer than ``counts``.
    """

    edges: list[float]
    counts: list[int]


class SourceRows(TypedDict):
    """Rows of one source of a task."""

    files: int
    read: int
    not_selected: int
    unreadable: int
    kept: int


class KeptExample(TypedDict):
    """A row that is trained on."""

    row_id: str
    request: str
    answer: str


class TaskReport(TypedDict):
    """Rows and tokens of one task.

    Keys:
        rejects: cleaning rule -> rows; a rule that is on and found nothing may be given with 0.
        negatives: negative rows, beside the kept ones.
        unified: kept rows whose answer was rewritten to the task's format.
        languages: of the kept rows' requests; "" where it cannot be told.
        tokens, answer_tokens: of the samples; answer_tokens are the supervised ones.
        histograms: ``prompt_tokens``, ``answer_tokens`` and ``quality`` of the samples, and
            ``sample_tokens`` of the kept rows before anything is dropped or cut for its length.
    """

    general: bool
    sources: dict[str, SourceRows]
    read: int
    not_selected: int
    unreadable: int
    rejects: dict[str, int]
    kept: int
    negatives: int
    unified: int
    languages: dict[str, int]
    tokens: int
    answer_tokens: int
    overlong: int
    truncated: int
    all_masked: int
    histograms: dict[str, Histogram]
    quality_mean: float
    examples: list[KeptExample]


class Wording(TypedDict):
    """How a phase worded its rows; ``cues``: task -> task whose cue was attached -> rows."""

    tagged: int
    untagged: int
    cues: dict[str, dict[str, int]]
    paraphrased: int
    rows: int


class RejectExample(TypedDict):
    """One row that a rule left out."""

    task: str
    row_id: str
    origin: str
    reason: str
    row: str


class Forced(TypedDict):
    """Rows kept or dropped by ``data.cleaning.keep`` and ``drop``."""

    kept: int
    dropped: int
    unknown_ids: list[str]


class Report(TypedDict):
    """Everything that ``launch/prepare.py`` found; ``examples`` are by rule, a few of each."""

    name: str
    root: str
    fingerprint: str
    seconds: float
    tokenizer: str
    max_seq_len: int
    rejects_file: str
    workers: int
    tasks: dict[str, TaskReport]
    phases: dict[str, Wording]
    examples: dict[str, list[RejectExample]]
    forced: Forced
