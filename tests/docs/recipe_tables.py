"""The tables of docs/recipes.md, made from plans of the ten tasks with the Qwen2.5 tokenizer.

python -m tests.docs.recipe_tables      # writes them into docs/recipes.md
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare.tokeniser import TRUNCATED
from data_modules.samples import key_of
from data_modules.wording import worded
from launch.composing import addable, prepare_root
from tests.shared_data import REAL_TOKENIZERS, REPOSITORY, shared
from trainer.config.schema import Config
from trainer.config.strict_merge import to_config
from trainer.config.validate import validate
from trainer.plan_view import task_shares
from trainer.train import make_data

PAGE = REPOSITORY / "docs" / "recipes.md"
VERSIONS = ("v0_1", "v0_2", "v0_3", "v1_0", "v1_1")
_WEIGHTS = (
    "{brainstorming:1,classification:1,code_generation:1,information_extraction:1,"
    "logic_reasoning:2,qa:1,rewriting:1,summarization:1,translation:2}"
)
#: Column of the table of strategies -> what is added to ``experiment=v0_1``.
STRATEGIES: Mapping[str, tuple[str, ...]] = {
    "`natural`": (),
    "`caps`": ("balance@curriculum.phases.mix.balance=caps",),
    "`temperature`": ("balance@curriculum.phases.mix.balance=temperature",),
    "`unimax`": ("balance@curriculum.phases.mix.balance=unimax",),
    "`weights`": (
        "balance@curriculum.phases.mix.balance=weights",
        f"curriculum.phases.mix.balance.weights={_WEIGHTS}",
    ),
    "`axes`": (
        "balance@curriculum.phases.mix.balance=axes",
        "curriculum.phases.mix.balance.importance.translation=2",
    ),
}


@dataclass(frozen=True)
class Column:
    """One phase of one plan.

    Attributes:
        use: task -> figures, as ``trainer.plan_view.task_shares`` has them.
        cued: rows, repeats counted, that carry another task's cue.
        rejected: training rows that are left out.
    """

    use: Mapping[str, Mapping[str, Any]]
    cued: int
    rejected: int
    steps: int


def planned(cache: Path, *overrides: str) -> dict[str, Column]:
    """Phase -> column, of ``launch/plan.py`` with these overrides on the ten tasks."""
    shown = addable(
        [
            *overrides,
            f"data.root={shared('data/ten_tasks')}",
            f"data.cache_dir={cache}",
            "data.workers=1",
            # weights do not matter to a plan
            "model=tiny",
            f"model.tokenizer={shared(REAL_TOKENIZERS['qwen2.5'])}",
            "model.path=null",
        ]
    )
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        config: Config = to_config(compose("train", overrides=shown))
    prepare_root(config)
    validate(config, dp_world_size=1)
    data = make_data(config, None)
    data.prepare()
    data.load()
    return {phase: _column(data, phase) for phase in data.plans}


def _column(data: PhaseDataModule, phase: str) -> Column:
    plan = data.plans[phase]
    cued = _cued_keys(data, phase)
    right = plan.rows[plan.store.signs[plan.rows] > 0]
    return Column(
        use=task_shares(plan.use()),
        cued=sum(key in cued for key in plan.store.row_keys[right].tolist()) if cued else 0,
        rejected=sum(
            count
            for rules in data.rejects(phase).values()
            for rule, count in rules.items()
            if rule != TRUNCATED
        ),
        steps=plan.steps,
    )


def _cued_keys(data: PhaseDataModule, phase: str) -> set[int]:
    """Keys of the rows that carry another task's cue in this phase."""
    wording = data.wording(phase)
    if not wording.prompts.cue_share:
        return set()
    rows = data.cleaned.rows
    words = partial(
        worded,
        tasks=data.data.tasks,
        boundary=wording.boundary,
        prompts=wording.prompts,
        phase=phase,
        seed=data.seed,
    )
    return {
        key_of(record.task, record.row_id)
        for number, part in enumerate(rows.parts)
        for record in part.records(rows.kept(number))
        if words(record).cue_of
    }


def versions_table(cache: Path) -> str:
    """The five versions side by side."""
    columns: dict[str, Column] = {}
    for version in VERSIONS:
        phases = planned(cache, f"experiment={version}")
        for phase, column in phases.items():
            name = version.replace("_", ".")
            columns[f"{name} {phase}" if len(phases) > 1 else name] = column

    def task_cell(task: str, column: Column) -> str:
        use = column.use.get(task)
        if use is None:
            return "-"
        shares = f"{use['row_share']:.1%} / {use['answer_token_share']:.1%}"
        return f"{use['rows']}<br>{shares}"

    def total(figure: str) -> Callable[[Column], str]:
        return lambda column: str(sum(use[figure] for use in column.use.values()))

    rows = [
        (task, [task_cell(task, column) for column in columns.values()])
        for task in _tasks(columns.values())
    ]
    rows += [
        (f"**{label}**", [figure(column) for column in columns.values()])
        for label, figure in (
            ("rows", total("rows")),
            ("supervised tokens", total("answer_tokens")),
            ("negatives", total("negatives")),
            ("rows with another task's cue", lambda column: str(column.cued)),
            ("training rows rejected", lambda column: str(column.rejected)),
            ("steps", lambda column: str(column.steps)),
        )
    ]
    return _markdown(("task", *columns), rows)


def strategies_table(cache: Path) -> str:
    """Rows per task of every balance strategy."""
    columns = {
        name: planned(cache, "experiment=v0_1", *overrides)["mix"]
        for name, overrides in STRATEGIES.items()
    }
    rows = [
        (task, [str(column.use[task]["rows"]) for column in columns.values()])
        for task in _tasks(columns.values())
    ]
    totals = [str(sum(use["rows"] for use in column.use.values())) for column in columns.values()]
    repeats = [
        str(max(use["max_repeats"] for use in column.use.values())) for column in columns.values()
    ]
    rows += [("**rows**", totals), ("**most repeated row**", repeats)]
    return _markdown(("task", *columns), rows)


def _tasks(columns: Iterable[Column]) -> list[str]:
    """All tasks, those with most rows first as the data have them."""
    available = {task: use["available"] for column in columns for task, use in column.use.items()}
    return sorted(available, key=lambda task: (-available[task], task))


def _markdown(head: Iterable[str], rows: Iterable[tuple[str, list[str]]]) -> str:
    head = list(head)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *([name, *cells] for name, cells in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


TABLES: Mapping[str, Callable[[Path], str]] = {
    "versions": versions_table,
    "strategies": strategies_table,
}


def table_in(page: str, name: str) -> str:
    """The table between the marks of its name."""
    start, end = _place(page, name)
    return page[start:end].strip()


def with_table(page: str, name: str, table: str) -> str:
    """The page with another table between the marks."""
    start, end = _place(page, name)
    return f"{page[:start]}{table}\n{page[end:]}"


def _place(page: str, name: str) -> tuple[int, int]:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", page, re.S)
    assert found, f"{PAGE} has no place for the table '{name}'"
    return found.span(1)


if __name__ == "__main__":
    text = PAGE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        for name, make in TABLES.items():
            text = with_table(text, name, make(Path(folder)))
    PAGE.write_text(text, encoding="utf-8")
