"""Typed configuration of data: tasks, sources, boundaries and the mixture of one phase.

Plain dataclasses: the values live in ``conf/``, the rules that need more than one field in
``trainer.config.validate``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from data_modules.benchmark import BenchmarkSpec


class Metric(Enum):
    """How a task's generated answers are judged."""

    none = "none"  # evaluation loss only
    exact_match = "exact_match"


class Strategy(Enum):
    """How many rows of each task one epoch of a phase draws."""

    natural = "natural"  # every row once
    caps = "caps"  # up-sample to min_rows, down-sample to max_rows
    weights = "weights"  # a fixed share of the rows for every task


class Order(Enum):
    """How the drawn rows of a phase are interleaved."""

    mixed = "mixed"
    grouped = "grouped"  # blocks of one task, tasks alternating
    sequential = "sequential"  # task after task


class Overlong(Enum):
    """What happens to a sample longer than ``data.max_seq_len``."""

    drop = "drop"
    truncate = "truncate"


@dataclass
class SourceConfig:
    """JSONL files of a task, relative to ``data.root``; an empty ``eval`` means no evaluation."""

    train: str = "???"
    eval: str = ""


@dataclass
class TaskConfig:
    """One kind of request.

    Attributes:
        tag: text put before the first user turn where boundaries are on.
        constraint: text put after every user turn, last before the answer.
        general: True for replay data that keeps general ability; never a specialised task.
        max_new_tokens: generation budget of the evaluation; an answer cut there counts as wrong.
    """

    source: SourceConfig = field(default_factory=SourceConfig)
    tag: str = ""
    constraint: str = ""
    metric: Metric = Metric.none
    general: bool = False
    max_new_tokens: int = 128


@dataclass
class DataConfig:
    """Where rows come from and how they become samples.

    Attributes:
        name: short name used in the default run name.
        root: folder that task sources are relative to.
        tasks: task name -> task; empty with ``discover``.
        discover: make a task of every ``train/<task>.jsonl`` under ``root`` that no file defines.
        groups: named lists of tasks that phases can refer to.
        max_seq_len: longest sample in tokens.
        packing: lay several samples into one row of a micro-batch, attention kept apart.
        rows_per_task: use only this many rows of every task, chosen by seed; None takes all.
        max_reject_ratio: largest share of faulty rows per file that is tolerated.
        chat_template: path of a Jinja chat template; None takes the tokenizer's own.
        cache_dir: where tokenised samples are kept, keyed by fingerprint.
        benchmark: when set, ``root`` is filled by the built-in benchmark generator.
    """

    name: str = "???"
    root: str = "???"
    tasks: dict[str, TaskConfig] = field(default_factory=dict)
    discover: bool = False
    groups: dict[str, list[str]] = field(default_factory=dict)
    max_seq_len: int = 2048
    overlong: Overlong = Overlong.drop
    packing: bool = True
    rows_per_task: int | None = None
    max_reject_ratio: float = 0.0
    chat_template: str | None = None
    cache_dir: str = ".cache/polyphase"
    benchmark: BenchmarkSpec | None = None


@dataclass
class BoundaryConfig:
    """Which boundary texts a phase with ``boundary: true`` adds to its prompts."""

    tag: bool = True
    constraint: bool = True


@dataclass
class BalanceConfig:
    """Rows of each task per epoch.

    Attributes:
        min_rows, max_rows: caps of ``strategy: caps``; None leaves that side open.
        weights: relative shares of ``strategy: weights``, one per task of the phase.
    """

    strategy: Strategy = Strategy.natural
    min_rows: int | None = None
    max_rows: int | None = None
    weights: dict[str, float] = field(default_factory=dict)


@dataclass
class MixtureConfig:
    """What one phase trains on.

    Attributes:
        tasks: names of tasks or groups; ``all`` is every specialised task.
        rest_share: share of all rows drawn from the specialised tasks not in ``tasks``.
        replay: share of all rows drawn from the general tasks.
        block_rows: rows of one task in a block of ``order: grouped``.
        epochs, steps, tokens: length of the phase; exactly one is set. ``tokens`` counts input
            tokens and is met to within one epoch's rounding to whole rows.
        boundary: add tags and constraints (see :class:`BoundaryConfig`).
    """

    tasks: list[str] = field(default_factory=lambda: ["all"])
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    rest_share: float = 0.0
    replay: float = 0.0
    order: Order = Order.mixed
    block_rows: int = 64
    epochs: float | None = None
    steps: int | None = None
    tokens: int | None = None
    boundary: bool = True
