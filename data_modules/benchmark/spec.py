"""What to generate: the benchmark's knobs as one plain dataclass.

Only int, float, str, list and dict fields are used, so the class can serve as an OmegaConf
structured config although this package does not know OmegaConf.
"""

from __future__ import annotations

from dataclasses import dataclass, field

#: Rows per task at multiplier 1. The shape is that of a typical in-house collection: question
#: answering is half of everything, the rarest task has 45 rows. 1,200 rows in total.
TASK_ROWS: dict[str, int] = {
    "qa": 600,
    "translation": 50,
    "summarization": 75,
    "classification": 110,
    "extraction": 80,
    "sorting": 65,
    "code": 45,
    "math": 60,
    "json": 60,
    "style": 55,
}

#: The ten specialised tasks, in the order reports use.
TASKS: tuple[str, ...] = tuple(TASK_ROWS)

#: The task whose rows keep general ability; never counted as specialised.
GENERAL = "general"

#: Every task a benchmark folder holds files for.
ALL_TASKS: tuple[str, ...] = (*TASKS, GENERAL)


@dataclass
class BenchmarkSpec:
    """Everything that decides a single byte of a generated benchmark.

    Attributes:
        seed: names every random stream and picks the hidden constants (letter translation, entity
            set).
        multiplier: rows of each specialised task = ``round(task_rows[task] * multiplier)``; 2 gives
            2,400 rows.
        task_rows: rows per specialised task before the multiplier. A task left out keeps its
            default count, 0 drops its training rows.
        general_rows: training rows of ``general`` (the replay pool of fine-tuning).
        eval_rows: rows per task in each of the three evaluation sets.
        base_rows: rows of ``train/base.jsonl``, the general-only corpus that a base model is
            trained on; 0 writes no such file.
        poor_rows: training rows of the specialised tasks whose answer is poor: another task's, or behind
            a greeting; see `flaws`.
        contrast_rows: rows of ``contrast/<task>.jsonl``, which carry another task's cue and are
            answered rightly; 0 writes no such file.
        cue_probability: share of training rows that carry their task's surface cue; the others
            carry none.
        min_cells: fewest cells in a payload.
        max_cells: most cells in a payload (digits are distinct, so at most 10). Five, as it was
            not shown that a model of a million parameters learns the skills with eight.
        filler_probability: chance of a meaningless word in each of an instruction's three gaps.
    """

    seed: int = 0
    multiplier: float = 2.0
    task_rows: dict[str, int] = field(default_factory=lambda: dict(TASK_ROWS))
    general_rows: int = 1200
    eval_rows: int = 200
    base_rows: int = 0
    poor_rows: int = 0
    contrast_rows: int = 0
    cue_probability: float = 0.9
    min_cells: int = 3
    max_cells: int = 5
    filler_probability: float = 0.3

    def rows_of(self, task: str) -> int:
        """Training rows of `task`, which may be any name in `ALL_TASKS`."""
        if task == GENERAL:
            return self.general_rows
        return round(self.task_rows.get(task, TASK_ROWS[task]) * self.multiplier)

    def validate(self) -> None:
        """Check every field.

        Raises:
            ValueError: naming all faulty fields at once, each with the value seen and the rule.
        """
        faults: list[str] = []
        for name in (
            *("general_rows", "eval_rows", "base_rows", "multiplier"),
            *("poor_rows", "contrast_rows"),
        ):
            if getattr(self, name) < 0:
                faults.append(f"{name}={getattr(self, name)!r}: must not be negative")
        for name in ("cue_probability", "filler_probability"):
            if not 0 <= getattr(self, name) <= 1:
                faults.append(f"{name}={getattr(self, name)!r}: must lie in 0..1")
        # Two cells at least: classification compares the last digit with the first. Ten at most:
        # digits are distinct.
        if not 1 <= self.min_cells <= self.max_cells <= 10:
            faults.append(
                f"min_cells={self.min_cells!r}, max_cells={self.max_cells!r}: "
                "need 2 <= min_cells <= max_cells <= 10"
            )
        for task, rows in self.task_rows.items():
            if task not in TASK_ROWS:
                faults.append(
                    f"task_rows names {task!r}, which is no specialised task; "
                    f"defined: {', '.join(TASKS)}"
                )
            elif rows < 0:
                faults.append(f"task_rows.{task}={rows!r}: must not be negative")
        if faults:
            raise ValueError("BenchmarkSpec: " + "; ".join(faults))
