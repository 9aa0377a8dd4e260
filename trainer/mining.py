"""Mined negatives: a model's leaks on training requests, written as rows for the next phase."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.table import Table

from data_modules.faults import ConfigFault
from data_modules.mined_rows import Leak, MinedRows, choose_leaks, mined_rows, source_name
from data_modules.mining_requests import MiningRequest, mining_requests
from data_modules.phase_data_module import PhaseDataModule
from data_modules.prepare.clean_rows import clean_rows
from trainer import distributed
from trainer.config.schema import Config
from trainer.config.validate import validate
from trainer.config.validate_engine import live_engine_faults
from trainer.console import LOGGER, make_console, quieten_libraries, start_logging
from trainer.evaluation.behaviour import EXAMPLES_PER_TASK, BehaviourJudge, training_examples
from trainer.evaluation.generate import Answer, generate
from trainer.evaluation.model import LoadedModel
from trainer.evaluation.results import MIXED, NONE
from trainer.model import load_model
from trainer.run_directory import write_json, write_text
from trainer.train import make_data

_PLAIN = re.compile(r"[\w./@-]+")  # needs no quotes in an override


class Judge(Protocol):
    """What mining asks of a judge of behaviours; see ``BehaviourJudge``."""

    tasks: tuple[str, ...]

    def behaviours(self, asked: str, requests: Sequence[str], answers: Sequence[str]) -> list[str]:
        """The behaviour of each answer."""


@dataclass(frozen=True)
class Found:
    """What the answers to one task's requests show.

    Attributes:
        asked: prompt set -> requests.
        shown: prompt set -> task shown -> leaks, before any is left out.
        leaks: those that rows can be made of.
        left_out: reason -> leaks that none can be made of.
    """

    asked: dict[str, int]
    shown: dict[str, dict[str, int]]
    leaks: list[Leak]
    left_out: dict[str, int]


def mine(config: Config) -> dict[str, MinedRows]:
    """Ask training requests, and write what leaks as rows, under the ranks that the launcher started.

    The model is ``init_from``, else the model itself. Rows go to ``mined/<phase>/<task>.jsonl`` of the run
    directory, what was found to ``mined.json`` beside them.

    Returns:
        Task -> its rows, on the main rank; empty on the others.

    Raises:
        UserFault: on every rank, before anything is asked.
    """
    ranks = distributed.ranks_from_environment()
    validate(config, dp_world_size=None)
    if faults := list(live_engine_faults(config)):
        raise ConfigFault(faults)
    quieten_libraries()
    distributed.set_threads(config.cluster, ranks)
    data = make_data(config, config.init_from)
    phase = _phase(config, list(data.mixtures))
    device = distributed.init(config.cluster, ranks)

    def clean() -> None:
        clean_rows(config.data, data.trained_tasks)

    distributed.on_first_local_rank(ranks, clean)
    folder = Path(config.output_dir) / "mined" / phase
    start_logging(folder / f"rank_{ranks.rank}.log", ranks.is_main)
    name = str(config.init_from or config.model.path or "random weights")
    LOGGER.info("Mines %s with training requests, worded as phase '%s' does.", name, phase)
    mining = config.mining
    requests = mining_requests(data, phase, mining.prompt_sets, mining.rows_per_task)
    for prompt_set in mining.prompt_sets:
        if not any(one.prompt_set is prompt_set for some in requests.values() for one in some):
            words = "prompt set '%s' asks nothing: no task has cues, or templates, for it"
            LOGGER.warning(words, prompt_set.value)
    model = distributed.on_every_rank(
        ranks, lambda: load_model(config.model, data.tokenizer, config.init_from, config.seed)
    )
    loaded = LoadedModel(model, len(data.tasks), device, ranks.world_size)
    # Another task's answer may be longer than any of the task asked.
    longest = max(settings.max_new_tokens for settings in config.data.tasks.values())
    given = iter(
        generate(
            loaded,
            data.tokenizer,
            [request.row for asked in requests.values() for request in asked],
            [longest for asked in requests.values() for _ in asked],
            config.evaluation.batch_size,
            ranks.rank,
        )
    )
    answers = {task: [next(given) for _ in asked] for task, asked in requests.items() if asked}
    if not ranks.is_main:
        return {}
    judge = _judge(data)
    found = {
        task: find_leaks(task, requests[task], answers[task], judge)
        for task in answers
        if task in judge.tasks
    }
    leaks = [leak for one in found.values() for leak in one.leaks]
    chosen = choose_leaks(leaks, mining.most, mining.most_per_pair, config.seed)
    mined = mined_rows(chosen, phase, config.data.tasks, config.seed)
    overrides = write_mined(folder, mined, config, phase, _right_rows(data))
    false_alarms = judge.gold_report.leaked
    values = summary(found, mined, config, phase, name, overrides, false_alarms)
    write_json(folder / "mined.json", values)
    print_mined(make_console(), found, mined, folder, overrides, false_alarms)
    return mined


def _phase(config: Config, selected: list[str]) -> str:
    """The phase behind which ``init_from`` lies, if it is one of ours; else the last one selected."""
    folder = Path(config.init_from or "")
    named = folder.parent.name if folder.parent.parent.name == "phases" else ""
    return named if named in selected else selected[-1]


def _judge(data: PhaseDataModule) -> BehaviourJudge:
    tasks = {task: data.data.tasks[task] for task in data.trained_tasks}
    return BehaviourJudge.fit(
        tasks, training_examples(data, EXAMPLES_PER_TASK, data.seed), data.seed
    )


def _right_rows(data: PhaseDataModule) -> int:
    return sum(len(data.cleaned.rows.right_rows(task)) for task in data.trained_tasks)


def find_leaks(
    task: str, requests: Sequence[MiningRequest], answers: Sequence[Answer], judge: Judge
) -> Found:
    """Judge the answers to one task's requests.

    No row is made of an answer that was cut (its end is not the model's), nor where the right answer
    would be judged as the same task's (the judge is at fault, not the model), nor of one that the
    readers would refuse: the right answer itself, or text with a NUL.
    """
    records = [request.record for request in requests]
    typed = [record.request for record in records]
    shown = judge.behaviours(task, typed, [answer.text for answer in answers])
    right = judge.behaviours(task, typed, [record.answer for record in records])
    asked: Counter[str] = Counter()
    counts: dict[str, Counter[str]] = {}
    leaks: list[Leak] = []
    left_out: Counter[str] = Counter()
    for request, answer, behaviour, own in zip(requests, answers, shown, right, strict=True):
        prompt_set = request.prompt_set.value
        asked[prompt_set] += 1
        if behaviour in (task, MIXED, NONE):
            continue
        counts.setdefault(prompt_set, Counter())[behaviour] += 1
        if not answer.finished:
            left_out["cut at max_new_tokens"] += 1
        elif own == behaviour:
            left_out["the right answer looks alike"] += 1
        elif answer.text.split() == request.record.answer.split() or "\0" in answer.text:
            left_out["no wrong answer that can be read"] += 1
        else:
            leaks.append(Leak(request, behaviour, answer.text))
    return Found(
        dict(asked),
        {prompt_set: dict(sorted(some.items())) for prompt_set, some in counts.items()},
        leaks,
        dict(left_out),
    )


def write_mined(
    folder: Path, mined: Mapping[str, MinedRows], config: Config, phase: str, right_rows: int
) -> list[str]:
    """Write the rows of each task, and the overrides that use them.

    Replaces what an earlier mining left in ``folder``. ``keep.txt`` has the rows' ids: a contrast row is
    nearly its origin, which cleaning would take for a duplicate.

    Args:
        right_rows: rows with right answers in the training data, which the share of negatives goes by.

    Returns:
        The overrides; none without rows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in (*folder.glob("*.jsonl"), folder / "keep.txt", folder / "overrides.txt"):
        old.unlink(missing_ok=True)
    if not mined:
        return []
    home = folder.resolve()
    overrides: list[str] = []
    for task, rows in sorted(mined.items()):
        write_text(folder / f"{task}.jsonl", rows.text())
        path = _quoted(str(home / f"{task}.jsonl"))
        overrides.append(f"data.tasks.{task}.sources.{source_name(phase)}.train={path}")
    ids = [name for _, rows in sorted(mined.items()) for name in rows.ids]
    write_text(folder / "keep.txt", "".join(f"{name}\n" for name in ids))
    keep = [*config.data.cleaning.keep, f"@{home / 'keep.txt'}"]
    keep = list(dict.fromkeys(keep))
    overrides.append(f"data.cleaning.keep=[{','.join(map(_quoted, keep))}]")
    negatives = sum(sum(rows.negatives.values()) for rows in mined.values())
    after = _next_phase(config, phase)
    key = f"curriculum.phases.{after}.negatives"
    share = config.curriculum.phases[after].negatives.share + negatives / right_rows
    overrides += [f"{key}.share={share:.2g}", f"{key}.pairs=true"]
    write_text(folder / "overrides.txt", "".join(f"{one}\n" for one in overrides))
    return overrides


def _next_phase(config: Config, phase: str) -> str:
    """The phase behind ``phase``; itself if it is the last."""
    order = list(config.curriculum.phases)
    return order[min(order.index(phase) + 1, len(order) - 1)]


def _quoted(text: str) -> str:
    """A value that Hydra reads as this text."""
    if _PLAIN.fullmatch(text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def summary(
    found: Mapping[str, Found],
    mined: Mapping[str, MinedRows],
    config: Config,
    phase: str,
    model: str,
    overrides: Sequence[str],
    false_alarms: Mapping[str, float],
) -> dict[str, Any]:
    """What ``mined.json`` says.

    Args:
        false_alarms: task -> share of right answers that the judge takes for another task's.
    """
    return {
        "model": model,
        "phase": phase,
        "seed": config.seed,
        "prompt_sets": [one.value for one in config.mining.prompt_sets],
        "rows_per_task": config.mining.rows_per_task,
        "tasks": {
            task: {
                "sets": {
                    name: {
                        "asked": count,
                        "shown": one.shown.get(name, {}),
                        "leak_rate": sum(one.shown.get(name, {}).values()) / count,
                    }
                    for name, count in one.asked.items()
                },
                "false_alarm_rate": false_alarms.get(task, 0.0),
                "left_out": one.left_out,
                "negatives": mined[task].negatives if task in mined else {},
                "contrasts": mined[task].contrasts if task in mined else {},
                "rows": len(mined[task].rows) if task in mined else 0,
            }
            for task, one in found.items()
        },
        "overrides": list(overrides),
    }


def print_mined(
    console: Console,
    found: Mapping[str, Found],
    mined: Mapping[str, MinedRows],
    folder: Path,
    overrides: Sequence[str],
    false_alarms: Mapping[str, float],
) -> None:
    """The table of leaks and rows, and how to use them."""
    sets = list(dict.fromkeys(name for one in found.values() for name in one.asked))
    table = Table(title="leaks on training requests", title_justify="left")
    for name in ("task asked", *(f"{name}: leaks / asked" for name in sets), "shows"):
        table.add_column(name, justify="left" if name in ("task asked", "shows") else "right")
    for name in ("negatives", "contrast rows"):
        table.add_column(name, justify="right")
    for task, one in found.items():
        totals: Counter[str] = sum((Counter(some) for some in one.shown.values()), Counter())
        rows = mined.get(task, MinedRows([], {}, {}))
        table.add_row(
            task,
            *(f"{sum(one.shown.get(s, {}).values())} / {one.asked.get(s, 0)}" for s in sets),
            ", ".join(f"{name} {count}" for name, count in totals.most_common()),
            str(sum(rows.negatives.values())),
            str(sum(rows.contrasts.values())),
        )
    console.print(table)
    left_out: Counter[str] = sum((Counter(one.left_out) for one in found.values()), Counter())
    if left_out:
        words = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
        console.print(f"leaks that no row is made of: {words}", soft_wrap=True)
    if worst := max((false_alarms.get(task, 0.0) for task in found), default=0.0):
        console.print(
            f"right answers that the judge takes for leaks: up to {worst:.1%} of a task's"
        )
    console.print(f"what was found: {folder / 'mined.json'}", soft_wrap=True)
    if not mined:
        console.print("No leak to make a row of: nothing else is written.")
        return
    total = sum(len(rows.rows) for rows in mined.values())
    console.print(f"{total} rows in {folder}; train on them with", soft_wrap=True)
    for override in overrides:
        console.print(f"  {shlex.quote(override)}", soft_wrap=True, markup=False)
    console.print(f"or all at once: $(cat {folder / 'overrides.txt'})", soft_wrap=True)
