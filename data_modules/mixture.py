"""Typed configuration of one phase's mixture: which rows, how many, in which order and wording.

Plain dataclasses: the values live in ``conf/``, the rules that need more than one field in
``trainer.config.validate``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum


class Strategy(Enum):
    """How many rows of each task one epoch of a phase draws; see ``data_modules.balance``."""

    natural = "natural"  # every row once
    caps = "caps"  # up-sample to min_rows, down-sample to max_rows
    weights = "weights"  # a fixed share of the rows for every task
    temperature = "temperature"  # share ~ min(rows, size_limit) ** (1 / temperature)
    unimax = "unimax"  # equal shares, no row more than max_repeats times
    axes = "axes"  # quantity x quality x difficulty x importance


#: In ``tasks``: stands for the tasks that an evaluation finds hard; see :class:`AutoHardConfig`.
AUTO_HARD = "auto_hard"


class HardBy(Enum):
    """What makes a task hard for ``tasks: [auto_hard]``; see ``trainer.auto_hard``."""

    score = "score"  # lowest main metric
    gap = "gap"  # main metric farthest below TaskConfig.target
    loss_fall = "loss_fall"  # evaluation loss fell least, relatively, over the phase before


class Order(Enum):
    """How the drawn rows of a phase are interleaved; see ``data_modules.order``."""

    mixed = "mixed"
    grouped = "grouped"  # blocks of one task, tasks alternating
    sequential = "sequential"  # task after task
    easy_to_hard = "easy_to_hard"  # by order_by, ties in random order


class OrderBy(Enum):
    """What makes a row hard for ``order: easy_to_hard``."""

    length = "length"  # tokens, short first
    quality = "quality"  # the row's quality score, high first
    loss = "loss"  # a base model's loss on the row (data.row_losses), low first


@dataclass
class BalanceConfig:
    """Rows of each task per epoch.

    Attributes:
        rows: rows of an epoch of the phase's own tasks; None takes as many as there are. Not for
            ``natural``.
        min_rows, max_rows: caps of ``strategy: caps``; None leaves that side open.
        weights: relative shares of ``strategy: weights``, one per task of the phase.
        temperature: T of ``temperature`` and of the quantity axis of ``axes``; 1 is natural.
        size_limit: K of ``temperature`` and ``axes``: a task counts as at most this large.
        max_repeats: times that one row may be drawn over the whole phase under ``unimax``.
        quality, difficulty: exponents a and b of ``axes``.
        importance: task -> factor of ``axes``, default 1.
        difficulty_of: task -> difficulty of ``axes``, higher is harder; or
        difficulty_from: path of an ``evaluation.json`` that they are read from: 1 - score if every
            task of the phase has one, else the loss.
    """

    strategy: Strategy = Strategy.natural
    rows: int | None = None
    min_rows: int | None = None
    max_rows: int | None = None
    weights: dict[str, float] = field(default_factory=dict)
    temperature: float = 2.0
    size_limit: int | None = None
    max_repeats: float = 4.0
    quality: float = 1.0
    difficulty: float = 1.0
    importance: dict[str, float] = field(default_factory=dict)
    difficulty_of: dict[str, float] = field(default_factory=dict)
    difficulty_from: str | None = None


@dataclass
class PromptConfig:
    """How a phase words the requests of its rows; every draw is seeded by phase, task and row.

    Attributes:
        tag_dropout: share of rows that go without tag and constraint, so that the model also works
            without them.
        cue_share: share of rows of every task that carry another task's surface cue
            (``TaskConfig.cues``) in place of their own, with the answer they had.
        paraphrase_share: share of rows whose instruction is rephrased from
            ``TaskConfig.paraphrases``.
    """

    tag_dropout: float = 0.0
    cue_share: float = 0.0
    paraphrase_share: float = 0.0


@dataclass
class NegativesConfig:
    """Wrong answers that a phase pushes away from, by unlikelihood; see ``data_modules.negatives``.

    Attributes:
        share: negative rows per other row of the phase; 0 leaves them out.
        weight: alpha of their loss, which is normalised by the positives.
        start: share of the phase's steps before the first negative row.
        pairs: put each negative into the step of the right answer to the same request, where the
            phase draws that, so that both pull at once.
    """

    share: float = 0.0
    weight: float = 0.2
    start: float = 0.2
    pairs: bool = False


@dataclass
class AutoHardConfig:
    """Which tasks ``tasks: [auto_hard]`` stands for, and how many.

    Attributes:
        most: pick at most this many tasks.
        evaluation: path of the ``evaluation.json`` to pick by; None takes that of the phase before.
    """

    by: HardBy = HardBy.score
    most: int = 4
    evaluation: str | None = None


@dataclass
class MixtureConfig:
    """What one phase trains on.

    Attributes:
        tasks: names of tasks or groups; ``all`` is every specialised task, and ``auto_hard``, alone,
            those that an evaluation finds hard.
        rest_share: share of all rows drawn from the specialised tasks not in ``tasks``.
        replay: share of all rows drawn from the general tasks.
        order_by: what ``order: easy_to_hard`` goes by.
        block_rows: rows of one task in a block of ``order: grouped``.
        epochs, steps, tokens: length of the phase; exactly one is set. ``tokens`` counts input
            tokens and is met to within one epoch's rounding to whole rows.
        boundary: add tags and constraints (see ``data_modules.config.BoundaryConfig``).
    """

    tasks: list[str] = field(default_factory=lambda: ["all"])
    auto_hard: AutoHardConfig = field(default_factory=AutoHardConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    rest_share: float = 0.0
    replay: float = 0.0
    order: Order = Order.mixed
    order_by: OrderBy = OrderBy.length
    block_rows: int = 64
    epochs: float | None = None
    steps: int | None = None
    tokens: int | None = None
    boundary: bool = True
    prompts: PromptConfig = field(default_factory=PromptConfig)
    negatives: NegativesConfig = field(default_factory=NegativesConfig)
