"""The built-in ten-task benchmark: generated, seeded, verified by programs, no downloads.

Ten tasks share one kind of input and differ in what is asked; their outputs have disjoint formats,
so every answer shows which task it behaves like. Eleven: `general` rows teach fifteen neutral
skills that a base model has before fine-tuning and may forget in it.

It shows whether a training method routes instructions to the right behaviour, feeds rare tasks and
keeps general ability. It shows nothing about language, knowledge, or numbers at the scale of real
models.
"""

from data_modules.benchmark.detectors import MIXED, NONE, behaviour_of
from data_modules.benchmark.general import SKILLS, skill_of
from data_modules.benchmark.generate import (
    BASE_FILE,
    FORMAT_VERSION,
    SPEC_FILE,
    TOKENIZER_FOLDER,
    generate,
)
from data_modules.benchmark.machine import MachineError, run_program
from data_modules.benchmark.payload import Payload, parse_payload
from data_modules.benchmark.rows import SPLITS, rows
from data_modules.benchmark.spec import ALL_TASKS, GENERAL, TASK_ROWS, TASKS, BenchmarkSpec
from data_modules.benchmark.tasks import (
    CUES,
    TASK,
    Task,
    World,
    constraint_of,
    golds,
    tag_of,
    world,
)
from data_modules.benchmark.tokenizer import CHAT_TEMPLATE, build_tokenizer, vocabulary
from data_modules.benchmark.verifiers import is_correct

__all__ = [
    "ALL_TASKS",
    "BASE_FILE",
    "CHAT_TEMPLATE",
    "CUES",
    "FORMAT_VERSION",
    "GENERAL",
    "MIXED",
    "NONE",
    "SKILLS",
    "SPEC_FILE",
    "SPLITS",
    "TASK",
    "TASKS",
    "TASK_ROWS",
    "TOKENIZER_FOLDER",
    "BenchmarkSpec",
    "MachineError",
    "Payload",
    "Task",
    "World",
    "behaviour_of",
    "build_tokenizer",
    "constraint_of",
    "generate",
    "golds",
    "is_correct",
    "parse_payload",
    "rows",
    "run_program",
    "skill_of",
    "tag_of",
    "vocabulary",
    "world",
]
