"""Typed configuration of data: tasks, their sources, cleaning and boundaries.

Plain dataclasses: the values live in ``conf/``, the rules that need more than one field in
``trainer.config.validate``. What one phase draws from the tasks is in ``data_modules.mixture``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from data_modules.benchmark import BenchmarkSpec


class PromptSet(Enum):
    """A way to ask the evaluation's questions; see ``data_modules.prompt_sets``."""

    ordinary = "ordinary"  # as in training
    paraphrase = "paraphrase"  # in words that training does not use
    conflict = "conflict"  # carrying another task's surface cue
    no_tag = "no_tag"  # without tag and constraint


class Overlong(Enum):
    """What happens to a sample longer than ``data.max_seq_len``."""

    drop = "drop"
    truncate = "truncate"


class RowFormat(Enum):
    """How a row says what was asked and answered; see ``data_modules.sources.formats``."""

    auto = "auto"  # decided for each row by the fields it has
    alpaca = "alpaca"  # instruction, input, output
    completion = "completion"  # prompt, completion
    messages = "messages"  # messages: [{role, content}]
    sharegpt = "sharegpt"  # conversations: [{from, value}]


class Unification(Enum):
    """A rule of one output format for a task's answers; see ``data_modules.unification``."""

    whitespace = "whitespace"  # no trailing blanks, at most one empty line
    code_fence = "code_fence"  # code in one ``` fence that names its language
    numbered_list = "numbered_list"  # list items as 1. 2. 3.
    bold = "bold"  # **bold**, not __bold__ or <b>bold</b>


class PostProcess(Enum):
    """A step of a task's output post-processing; see ``trainer.evaluation.postprocess``."""

    strip = "strip"  # outer white space
    unify = "unify"  # the task's rules of one output format
    fence_code = "fence_code"  # bare code into a fence
    extract_code = "extract_code"  # code out of its fence, and of the chatter around it
    first_line = "first_line"  # the first line that is not empty
    first_format = "first_format"  # the first stretch that has the task's format


class Behaviour(Enum):
    """What an answer looks like it is doing; see ``data_modules.cleaning.behaviours``."""

    code = "code"
    list = "list"
    question = "question"  # asks back
    json = "json"
    refusal = "refusal"


class Supervise(Enum):
    """Which tokens of a negative answer are pushed away from."""

    first_difference = "first_difference"  # the first that differs from the right answer
    answer = "answer"  # all of them; only for answers that share nothing with the right one


@dataclass
class SourceConfig:
    """Rows of a task from one place, for training, evaluation or both.

    Attributes:
        train, eval: a file, glob or folder relative to ``data.root``; or ``hub:owner/name`` for a
            data set of the Hugging Face hub. JSONL, JSON, CSV, TSV, Parquet and Arrow, the text
            formats also compressed (.gz, .bz2, .xz, .zst). Empty means none.
        subset: configuration name of a hub data set.
        split, eval_split: splits of a hub data set or of a saved Arrow folder.
        format: how a row is read.
        fields: our field name -> the row's own column, such as ``{instruction: question}``.
        where: expression over the row's fields that selects rows, such as ``lang == 'zh'``.
        weight: how often the rows of this source are drawn relative to the task's other sources.
        eval_sets: prompt set -> where its rows come from; sets without are made of ``eval``.
    """

    train: str = ""
    eval: str = ""
    subset: str | None = None
    split: str = "train"
    eval_split: str = "test"
    format: RowFormat = RowFormat.auto
    fields: dict[str, str] = field(default_factory=dict)
    where: str = ""
    weight: float = 1.0
    eval_sets: dict[PromptSet, str] = field(default_factory=dict)


@dataclass
class TaskConfig:
    """One kind of request.

    Attributes:
        sources: name -> where the rows come from.
        tag: text put before the first user turn where boundaries are on.
        constraint: text put after every user turn, last before the answer.
        tags, constraints: language ("zh", "en", ...) -> text that is used instead of ``tag`` and
            ``constraint`` for requests in that language.
        cues: surface forms that go with the task, as suffixes of a request (" ?"); cue decorrelation
            attaches them to other tasks' rows.
        paraphrases: language, or "any" -> templates that rephrase an instruction; ``{instruction}``
            stands for it.
        answer_languages: languages that answers may be in; empty allows all.
        translates: the answer's language must differ from the request's input.
        unify: rules of the output format, for ``cleaning.unify`` and for judging answers.
        code_language: named by fences that ``unify: [code_fence]`` adds.
        forbidden: behaviours that an answer of this task must not show.
        general: True for replay data that keeps general ability; never a specialised task.
        metric: what the task is judged by: a name of ``trainer.evaluation.metrics``, or
            ``module:attribute`` of one's own; "none" generates no answers.
        metrics: further metrics, reported beside it.
        target: value of ``metric`` that the task should reach.
        format: regular expression that a whole answer of this task matches, white space taken as
            single blanks, and no right answer of another task does; answers of tasks without one are
            told apart by a classifier.
        eval_paraphrases: as ``paraphrases``, kept for evaluation.
        postprocess: what is done to an answer before it is used, in this order; metrics are reported
            without and with it.
        max_new_tokens: generation budget of the evaluation; an answer cut there counts as wrong.
    """

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    tag: str = ""
    constraint: str = ""
    tags: dict[str, str] = field(default_factory=dict)
    constraints: dict[str, str] = field(default_factory=dict)
    cues: list[str] = field(default_factory=list)
    paraphrases: dict[str, list[str]] = field(default_factory=dict)
    answer_languages: list[str] = field(default_factory=list)
    translates: bool = False
    unify: list[Unification] = field(default_factory=list)
    code_language: str = "python"
    forbidden: list[Behaviour] = field(default_factory=list)
    metric: str = "none"
    metrics: list[str] = field(default_factory=list)
    target: float | None = None
    format: str = ""
    eval_paraphrases: dict[str, list[str]] = field(default_factory=dict)
    postprocess: list[PostProcess] = field(
        default_factory=lambda: [PostProcess.strip, PostProcess.unify]
    )
    general: bool = False
    max_new_tokens: int = 128

    @property
    def is_evaluated(self) -> bool:
        """Whether any source has evaluation rows."""
        return any(source.eval for source in self.sources.values())


@dataclass
class CleaningConfig:
    """Which training rows are left out for what they say; each rule is in ``data_modules.cleaning``.

    A rule is off at its neutral value (False, 0 or None). Rows that cannot be read at all are not
    cleaning's matter: see ``DataConfig.max_reject_ratio``.

    Attributes:
        unify: rewrite answers to their task's output format (``TaskConfig.unify``).
        placeholder: answers that stand for none ("N/A", "TODO", "...").
        encoding: mojibake, replacement and control characters.
        open_fence: code fences that are not closed.
        refusal: answers that decline ("As an AI language model ...").
        tag_leak: answers that carry a task's tag or constraint text.
        foreign_behaviour: answers that show what their task forbids (``TaskConfig.forbidden``).
        wrong_format: answers that do not have their task's ``TaskConfig.format``.
        wrong_language: answers not in ``TaskConfig.answer_languages``, untranslated translations.
        min_answer_chars, max_answer_chars, max_prompt_chars: lengths in characters.
        max_repetition: largest share of an answer that repeated n-grams may make up.
        exact_duplicates: rows equal to an earlier one of the same task up to case and white space.
        near_duplicates: Jaccard similarity from which prompt and answer both count as the same;
            None is off. Signatures by MinHash.
        across_tasks: also compare rows of different tasks.
        contamination: training rows whose prompt is that of an evaluation row.
        min_quality: lowest quality score that is kept.
        keep, drop: ids of rows that stay or go whatever the rules say; ``@FILE`` names a file with
            one id a line.
        max_drop_ratio: largest share of a task's readable rows that cleaning may leave out.
    """

    unify: bool = False
    placeholder: bool = False
    encoding: bool = False
    open_fence: bool = False
    refusal: bool = False
    tag_leak: bool = False
    foreign_behaviour: bool = False
    wrong_format: bool = False
    wrong_language: bool = False
    min_answer_chars: int = 0
    max_answer_chars: int | None = None
    max_prompt_chars: int | None = None
    max_repetition: float | None = None
    exact_duplicates: bool = False
    near_duplicates: float | None = None
    across_tasks: bool = False
    contamination: bool = False
    min_quality: float = 0.0
    keep: list[str] = field(default_factory=list)
    drop: list[str] = field(default_factory=list)
    max_drop_ratio: float = 0.5


@dataclass
class NegativeRowsConfig:
    """Negative rows beside those that the files bring; see ``data_modules.negatives``.

    Attributes:
        cross_task: rows made per row of a task: its request with another task's answer.
        swapped_instruction: rows made per row of a task: another task's instruction, with this row's
            input and answer.
        supervise: which tokens of a negative answer are pushed away from.
    """

    cross_task: float = 0.0
    swapped_instruction: float = 0.0
    supervise: Supervise = Supervise.first_difference


@dataclass
class DataConfig:
    """Where rows come from and how they become samples.

    Attributes:
        name: short name used in the default run name.
        root: folder that task sources are relative to.
        tasks: task name -> task; with ``discover`` only what files cannot say.
        discover: make a task of every file or folder under ``train/`` of ``root`` that none uses, or
            the source ``main`` of a task of its name that says not where its rows are.
        groups: named lists of tasks that phases can refer to.
        max_seq_len: longest sample in tokens.
        packing: lay several samples into one row of a micro-batch, attention kept apart.
        rows_per_task: use only this many rows of every task, chosen by seed in the proportions of
            its sources and languages; None takes all.
        max_reject_ratio: largest share of unreadable rows per task that is tolerated.
        row_losses: file made by ``launch/score.py``: a model's loss on every row.
        repeats_warning: warn when a phase draws one row more often than this.
        workers: processes that read, clean and tokenise; None takes the cores of the host.
        chat_template: path of a Jinja chat template; None takes the tokenizer's own.
        cache_dir: where prepared rows are kept, keyed by fingerprint.
        benchmark: when set, ``root`` is filled by the built-in benchmark generator.
    """

    name: str = "???"
    root: str = "???"
    tasks: dict[str, TaskConfig] = field(default_factory=dict)
    discover: bool = False
    groups: dict[str, list[str]] = field(default_factory=dict)
    cleaning: CleaningConfig = field(default_factory=CleaningConfig)
    negatives: NegativeRowsConfig = field(default_factory=NegativeRowsConfig)
    max_seq_len: int = 2048
    overlong: Overlong = Overlong.drop
    packing: bool = True
    rows_per_task: int | None = None
    max_reject_ratio: float = 0.0
    row_losses: str | None = None
    repeats_warning: int = 8
    workers: int | None = None
    chat_template: str | None = None
    cache_dir: str = ".cache/polyphase"
    benchmark: BenchmarkSpec | None = None


@dataclass
class BoundaryConfig:
    """Which boundary texts a phase with ``boundary: true`` adds to its prompts."""

    tag: bool = True
    constraint: bool = True
