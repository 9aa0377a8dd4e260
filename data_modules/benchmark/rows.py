"""Rows: instruction, input and right answer, drawn from a stream named after its file."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

from data_modules.benchmark.general import draw_general
from data_modules.benchmark.instructions import OBJECTS, VERBS, draw_instruction
from data_modules.benchmark.payload import draw_payload
from data_modules.benchmark.spec import GENERAL, TASKS, BenchmarkSpec
from data_modules.benchmark.streams import Stream
from data_modules.benchmark.tasks import CUES, TASK, World, world

#: Folder -> whether it is evaluation, uses held-out paraphrases, carries contradicting cues.
SPLITS: dict[str, tuple[bool, bool, bool]] = {
    "train": (False, False, False),
    "eval": (True, False, False),
    "eval_paraphrase": (True, True, False),
    "eval_conflict": (True, True, True),
}

_QUESTION = CUES["qa"]
_OTHER_CUES = tuple(sorted(set(CUES.values()) - {_QUESTION}))


def _cue(stream: Stream, task: str, probability: float, *, conflict: bool) -> str | None:
    """The cue of one row.

    Training and ordinary evaluation carry the task's own cue or, in the remaining rows, none: no
    training row ever contradicts its task, so whatever decorrelates cues has something to add. In
    the conflict set every row carries the question mark, which pulls towards the most frequent
    task; the tasks that own it carry another task's cue. `general` has no cue of its own.
    """
    own = CUES.get(task)
    if conflict:
        return stream.choice(_OTHER_CUES) if own == _QUESTION else _QUESTION
    has_cue = stream.chance(probability)
    return own if has_cue else None


def rows(
    spec: BenchmarkSpec, split: str, task: str, *, stream_name: str | None = None
) -> Iterator[dict[str, str]]:
    """An endless stream of rows `{"task", "instruction", "input", "output"}`; take as many as
    wanted.

    Rows depend on the seed, the split, the task (or `stream_name`, which replaces it as the
    stream's name) and on the payload, cue and filler settings, never on how many rows of anything
    are asked for.

    Raises:
        ValueError: for an unknown split or task.
    """
    if split not in SPLITS:
        raise ValueError(f"no benchmark split {split!r}; defined: {', '.join(SPLITS)}")
    if task not in (*TASKS, GENERAL):
        raise ValueError(f"no benchmark task {task!r}; defined: {', '.join((*TASKS, GENERAL))}")
    constants = world(spec.seed)
    for number in count():
        yield _row(
            spec,
            split,
            task,
            constants,
            Stream("bench", spec.seed, split, stream_name or task, number),
        )


def _row(
    spec: BenchmarkSpec, split: str, task: str, constants: World, stream: Stream
) -> dict[str, str]:
    for_eval, held_out, conflict = SPLITS[split]
    payload = draw_payload(stream, spec.min_cells, spec.max_cells, for_eval=for_eval)
    if task == GENERAL:
        instruction, payload, output = draw_general(
            stream,
            payload,
            constants,
            held_out=held_out,
            filler_probability=spec.filler_probability,
        )
    else:
        verb, obj = TASK[task].signature
        instruction = draw_instruction(
            stream,
            VERBS[verb],
            OBJECTS[obj],
            held_out=held_out,
            filler_probability=spec.filler_probability,
        )
        output = TASK[task].gold(payload, constants)
    cue = _cue(stream, task, spec.cue_probability, conflict=conflict)
    return {"task": task, "instruction": instruction, "input": payload.text(cue), "output": output}
