"""Poor rows, as every real collection has them, and contrast rows, as people write against leaks."""

from __future__ import annotations

from collections.abc import Iterator

from data_modules.benchmark.instructions import OBJECTS, VERBS, draw_instruction
from data_modules.benchmark.payload import draw_payload, parse_payload
from data_modules.benchmark.spec import TASKS, BenchmarkSpec
from data_modules.benchmark.streams import Stream
from data_modules.benchmark.tasks import TASK, golds, world


def poor_rows_of(spec: BenchmarkSpec) -> dict[str, dict[int, str]]:
    """task -> row number -> kind of flaw, for ``spec.poor_rows`` of the training rows.

    Rows are drawn over all specialised tasks alike, so a task has about its share of them.
    ``foreign`` is the right answer of another task, ``chatter`` the own one behind a greeting.
    """
    places = [(task, row) for task in TASKS for row in range(spec.rows_of(task))]
    chosen = Stream("bench", spec.seed, "poor").sample(places, min(spec.poor_rows, len(places)))
    flaws: dict[str, dict[int, str]] = {}
    for number, (task, row) in enumerate(chosen):
        flaws.setdefault(task, {})[row] = ("foreign", "chatter")[number % 2]
    return flaws


def spoiled(spec: BenchmarkSpec, task: str, row: dict[str, str], flaw: str) -> dict[str, str]:
    """The row with a poor answer in the place of the right one."""
    if flaw == "chatter":
        return {**row, "output": f"sure ! {row['output']}"}
    stream = Stream("bench", spec.seed, "foreign", task, row["input"])
    other = stream.choice([name for name in TASKS if name != task])
    payload, _ = parse_payload(row["input"])
    return {**row, "output": golds(payload, world(spec.seed))[other]}


def contrast_rows(spec: BenchmarkSpec) -> Iterator[dict[str, str]]:
    """``spec.contrast_rows`` rows, tasks in turn: a request that carries another task's cue, answered
    rightly."""
    constants = world(spec.seed)
    for number in range(spec.contrast_rows):
        task = TASKS[number % len(TASKS)]
        stream = Stream("bench", spec.seed, "contrast", number)
        payload = draw_payload(stream, spec.min_cells, spec.max_cells, for_eval=False)
        verb, obj = TASK[task].signature
        instruction = draw_instruction(
            stream,
            VERBS[verb],
            OBJECTS[obj],
            held_out=False,
            filler_probability=spec.filler_probability,
        )
        cue = stream.choice(sorted({one.cue for one in TASK.values()} - {TASK[task].cue}))
        yield {
            "task": task,
            "instruction": instruction,
            "input": payload.text(cue),
            "output": TASK[task].gold(payload, constants),
        }
