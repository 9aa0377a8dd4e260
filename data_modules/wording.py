"""How a phase words a row's request: paraphrase, then surface cue, then tag and constraint.

The tag opens the first user turn and the constraint closes every user turn, so the last words before
an answer name the task again. (In multilingual translation a tag far from the answer loses its hold
along the decoding steps, Sun et al., arXiv 2406.02876; hence both ends.) A cue is something that goes
with a task in the data but does not define it, such as a question mark; rows of every task that carry
another task's cue, with the answer they had, teach the model not to go by it. Replay rows of general
tasks keep the form their users type and get no cue.

Every draw is a hash of seed, phase, task and row, so no row depends on another one, on the number of
workers or on what else is read. A negative row is worded like the right answer to its request.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from data_modules.config import BoundaryConfig, TaskConfig
from data_modules.faults import DataFault, Fault
from data_modules.mixture import MixtureConfig, PromptConfig
from data_modules.records import Message, Record
from data_modules.samples import key_of

#: Where a paraphrase template takes the instruction.
INSTRUCTION = "{instruction}"
#: Key of ``TaskConfig.paraphrases`` for languages without templates of their own.
ANY_LANGUAGE = "any"

NO_BOUNDARY = BoundaryConfig(tag=False, constraint=False)


class Worded(NamedTuple):
    """A row's messages as a phase sees them, and what was done to them.

    Attributes:
        tagged: it carries a tag or a constraint.
        cue_of: the task whose cue it carries in place of its own; "" if none.
        paraphrased: its instruction was rephrased.
    """

    messages: tuple[Message, ...]
    tagged: bool
    cue_of: str
    paraphrased: bool


class BoundaryTexts(NamedTuple):
    """What goes before the first user turn and behind every user turn; "" is nothing."""

    tag: str
    constraint: str


def worded(
    record: Record,
    tasks: Mapping[str, TaskConfig],
    boundary: BoundaryConfig,
    prompts: PromptConfig,
    phase: str,
    seed: int,
) -> Worded:
    """The row's conversation as ``phase`` words it; answers and system turns stay as they are.

    Args:
        tasks: all tasks of the data: another one's cue may be taken.
        boundary: of the phase, see :func:`phase_boundary`.
        seed: of the run.
    """
    task = tasks[record.task]
    draws = _Draws(record, phase, seed)
    messages = record.messages
    paraphrased = False
    if draws.hits("paraphrase", prompts.paraphrase_share):
        messages, paraphrased = _paraphrased(record, task, draws)
    cue_of = ""
    if not task.general and draws.hits("cue", prompts.cue_share):
        messages, cue_of = _with_foreign_cue(messages, record.task, tasks, draws)
    texts = boundary_texts(task, boundary, record.language)
    tagged = any(texts) and not draws.hits("tag", prompts.tag_dropout)
    if tagged:
        messages = _bounded(messages, texts)
    return Worded(messages, tagged, cue_of, paraphrased)


def prompt_for(
    task_name: str,
    text: str,
    tasks: Mapping[str, TaskConfig],
    boundary: BoundaryConfig,
    language: str | None = None,
) -> str:
    """What a user sends for ``text`` to be handled as the task: the words of training.

    Args:
        language: of the request; None finds it out as cleaning does for training rows.

    Raises:
        DataFault: there is no such task.
    """
    if task_name not in tasks:
        raise DataFault(Fault("task", repr(task_name), f"the tasks are {', '.join(sorted(tasks))}"))
    if language is None:
        # Here, not above: inference with a stated language needs no language detection.
        from data_modules.cleaning.language import language_of

        language = language_of(text)
    texts = boundary_texts(tasks[task_name], boundary, language)
    return _bounded((Message("user", text),), texts)[0].content


def boundary_texts(task: TaskConfig, boundary: BoundaryConfig, language: str) -> BoundaryTexts:
    """Tag and constraint of a task for requests in a language."""
    return BoundaryTexts(
        task.tags.get(language, task.tag) if boundary.tag else "",
        task.constraints.get(language, task.constraint) if boundary.constraint else "",
    )


def foreign_cues(task: str, tasks: Mapping[str, TaskConfig]) -> dict[str, list[str]]:
    """The other tasks that have a cue to give to a task's requests, and their cues.

    A cue that reads like one of the own at its end is no other task's cue.
    """
    own = tuple(cue.strip() for cue in tasks[task].cues if cue.strip())
    found = {
        name: [cue for cue in other.cues if cue.strip() and not cue.strip().endswith(own)]
        for name, other in tasks.items()
        if name != task
    }
    return {name: cues for name, cues in found.items() if cues}


def phase_boundary(boundary: BoundaryConfig, mixture: MixtureConfig) -> BoundaryConfig:
    """The run's boundary as far as the phase uses it."""
    return boundary if mixture.boundary else NO_BOUNDARY


def wording_is_random(prompts: PromptConfig) -> bool:
    """Whether the wording of a row depends on the phase's name and the seed."""
    return any(share > 0 for share in asdict(prompts).values())


def wording_key(
    task_name: str,
    tasks: Mapping[str, TaskConfig],
    boundary: BoundaryConfig,
    prompts: PromptConfig,
    phase: str,
    seed: int,
) -> dict[str, Any]:
    """Everything that decides how the rows of a task are worded, as JSON values for a fingerprint.

    Equal for two phases that word the task alike: phase and seed are in it only where drawn on, the
    other tasks only for their cues.
    """
    task = tasks[task_name]
    languages = sorted({"", *task.tags, *task.constraints})
    key: dict[str, Any] = {
        "boundary": {one: list(boundary_texts(task, boundary, one)) for one in languages}
    }
    if wording_is_random(prompts):
        key |= {"prompts": asdict(prompts), "phase": phase, "seed": seed, "general": task.general}
    if prompts.paraphrase_share > 0:
        key["paraphrases"] = task.paraphrases
    if prompts.cue_share > 0 and not task.general:
        key["cues"] = {name: one.cues for name, one in tasks.items() if one.cues}
    return key


@dataclass
class WordingCounts:
    """What wording did to the rows of one phase, for its report.

    Attributes:
        rows, tagged, paraphrased: task -> rows.
        cues: task -> task whose cue they carry -> rows.
    """

    rows: Counter[str] = field(default_factory=Counter)
    tagged: Counter[str] = field(default_factory=Counter)
    paraphrased: Counter[str] = field(default_factory=Counter)
    cues: dict[str, Counter[str]] = field(default_factory=dict)

    def add(self, task: str, row: Worded) -> None:
        """Count one row."""
        self.rows[task] += 1
        self.tagged[task] += row.tagged
        self.paraphrased[task] += row.paraphrased
        if row.cue_of:
            self.cues.setdefault(task, Counter())[row.cue_of] += 1

    def merge(self, other: WordingCounts) -> None:
        """Add the counts of another worker."""
        self.rows.update(other.rows)
        self.tagged.update(other.tagged)
        self.paraphrased.update(other.paraphrased)
        for task, cues in other.cues.items():
            self.cues.setdefault(task, Counter()).update(cues)

    def as_json(self) -> dict[str, dict[str, Any]]:
        """task -> ``{rows, tagged, paraphrased, cues}``, tasks and cues in the order of names."""
        return {
            task: {
                "rows": self.rows[task],
                "tagged": self.tagged[task],
                "paraphrased": self.paraphrased[task],
                "cues": dict(sorted(self.cues.get(task, Counter()).items())),
            }
            for task in sorted(self.rows)
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Mapping[str, Any]]) -> WordingCounts:
        """The counts that :meth:`as_json` gave."""
        counts = cls()
        for task, one in values.items():
            counts.rows[task] = one["rows"]
            counts.tagged[task] = one["tagged"]
            counts.paraphrased[task] = one["paraphrased"]
            if one["cues"]:
                counts.cues[task] = Counter(one["cues"])
        return counts


class _Draws:
    """Chances and choices of one request, each a hash under a name of its own."""

    __slots__ = ("_key", "_names")

    def __init__(self, record: Record, phase: str, seed: int) -> None:
        self._names = (str(seed), phase, record.task, _request_id(record))
        self._key = ""  # of the names; most phases never draw

    def _hash(self, *names: str) -> int:
        if not self._key:
            self._key = str(key_of(*self._names))
        return key_of(self._key, *names)

    def hits(self, name: str, share: float) -> bool:
        """True for that share of all requests."""
        return share > 0 and self._hash(name) < share * 2**64

    def choose(self, name: str, options: Sequence[str]) -> str:
        """One of them, each equally likely whatever their order.

        Each option has a hash and the largest wins: a new option takes its share of the requests and
        leaves the others' choice alone.
        """
        return max(options, key=lambda option: self._hash(name, option))


def _request_id(record: Record) -> str:
    """The id that the right and the wrong answers to one request have in common."""
    row_id = record.row_id or record.origin
    if record.negative and row_id != record.origin:
        return row_id.rpartition("#")[0] or row_id
    return row_id


def _bounded(messages: tuple[Message, ...], texts: BoundaryTexts) -> tuple[Message, ...]:
    """The conversation with tag and constraint; trainer.prompt_template does the same in Jinja."""
    tag, constraint = texts
    result: list[Message] = []
    for message in messages:
        if message.role == "user":
            content = f"{message.content}\n{constraint}" if constraint else message.content
            content = f"{tag} {content}" if tag else content
            tag = ""  # only the first user turn carries it
            message = Message("user", content)
        result.append(message)
    return tuple(result)


def _paraphrased(
    record: Record, task: TaskConfig, draws: _Draws
) -> tuple[tuple[Message, ...], bool]:
    """The messages with the instruction in a template's words, if the row has a template."""
    request, instruction = record.request, record.instruction
    apart = instruction is not None and request.startswith(instruction) and request != instruction
    if instruction is None or not apart:
        instruction = request
    templates = task.paraphrases.get(record.language) or task.paraphrases.get(ANY_LANGUAGE) or []
    if not apart:  # the instruction says what the row is about and must stay
        templates = [one for one in templates if INSTRUCTION in one]
    if not templates:
        return record.messages, False
    new = draws.choose("template", templates).replace(INSTRUCTION, instruction)
    content = new + request[len(instruction) :]
    turn = next(i for i, message in enumerate(record.messages) if message.role == "user")
    return _with_turn(record.messages, turn, content), True


def _with_foreign_cue(
    messages: tuple[Message, ...], task: str, tasks: Mapping[str, TaskConfig], draws: _Draws
) -> tuple[tuple[Message, ...], str]:
    """The messages with another task's cue where the own one would stand, and that task."""
    foreign = foreign_cues(task, tasks)
    if not foreign:
        return messages, ""
    other = draws.choose("cue task", list(foreign))
    cue = draws.choose("cue text", foreign[other])
    turn = max(i for i, message in enumerate(messages) if message.role == "user")
    content = _without_cues(messages[turn].content, tasks[task].cues) + cue
    return _with_turn(messages, turn, content), other


def _without_cues(text: str, cues: Sequence[str]) -> str:
    """The text without any of the cues at its end; never nothing."""
    endings = sorted((cue.rstrip() for cue in cues if cue.strip()), key=len, reverse=True)
    while True:
        bare = text.rstrip()
        rests = (bare.removesuffix(one).rstrip() for one in endings)
        shorter = next((rest for rest in rests if rest and rest != bare), None)
        if shorter is None:
            return text
        text = shorter


def _with_turn(messages: tuple[Message, ...], turn: int, content: str) -> tuple[Message, ...]:
    return (*messages[:turn], Message("user", content), *messages[turn + 1 :])
