"""Run directories made for tests: any number of tasks, with something in every part of them."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from trainer.evaluation.results import (
    MIXED,
    NONE,
    ORDINARY,
    Crosstalk,
    Evaluation,
    Figure,
    SetResult,
    TaskResult,
    save,
    share,
)
from trainer.run_directory import INITIAL, RunDirectory, write_json, write_text

NAMES = (
    *("brainstorming", "chat", "classification", "code_generation", "extraction"),
    *("qa", "reasoning", "rewriting", "summarization", "translation"),
)
PHASES = ("mix", "specialize", "hard")
SETS = (ORDINARY, "paraphrase", "conflict", "no_tag")
GENERAL = "general"
ROWS = 150
STEPS = 60  # of a phase
HOSTILE = (
    "<script>alert('owned')</script>{{ 7 * 7 }}{% raw %}",
    '"><img src=x onerror=alert(1)>safe\u202egnp.exe\u200b\x1b[31m',
    "<!-- ]]> </section>",
    "</pre></details><style>body{display:none}</style><a href='http://evil.example/'>click</a>",
    "<iframe srcdoc='<b>x</b>'></iframe>",
    "A" * 30_000,
)


def task_names(count: int) -> list[str]:
    return [NAMES[i] if i < len(NAMES) else f"skill_{i:02d}" for i in range(count)]


def trained_in(number: int, names: list[str]) -> list[str]:
    """Tasks of the phase with this number, the general one last."""
    return [*(names if number < 2 else names[: max(2, len(names) // 3)]), GENERAL]


def figure(value: float, rows: int = ROWS) -> Figure:
    """A score with an interval about as wide as that of rows of 0 and 1."""
    half = 1.96 * math.sqrt(max(value * (1 - value), 0.01) / rows)
    return Figure(value, max(0.0, value - half), min(1.0, value + half), rows)


def made_run(
    folder: Path,
    tasks: int | list[str] = 10,
    seed: int = 0,
    name: str = "made",
    skill: float = 0.0,
    answers: Iterable[str] = (),
    interference: bool = True,
) -> Path:
    """Write a run directory.

    Args:
        seed: of every figure, and the run's.
        skill: added to the scores.
        answers: answers of the model among the usual ones.
    """
    draw = random.Random(f"{seed}/{name}")
    names = task_names(tasks) if isinstance(tasks, int) else tasks
    run = RunDirectory(folder / name)
    available = {task: int(2 ** draw.uniform(5.5, 10)) for task in names} | {GENERAL: 1200}
    _write_description(run, name, seed, names, available, draw)
    ease = {task: draw.uniform(0.15, 0.8) for task in names}
    losses: dict[str, float] = {task: draw.uniform(2.5, 5) for task in [*names, GENERAL]}
    lines: list[dict[str, Any]] = []
    for number, column in enumerate((INITIAL, *PHASES)):
        if number:
            lines += _steps(column, number, names, losses, draw)
        evaluation = _evaluation(names, ease, losses, number, skill, draw)
        save(run.evaluation(column), evaluation)
        lines.append(_evaluation_entry(column, number * STEPS, evaluation))
        if number == len(PHASES):
            _write_predictions(run, column, evaluation, list(answers), draw)
    write_text(run.metrics, "".join(json.dumps(line) + "\n" for line in lines))
    if interference:
        entries = [_interference(names, phase, draw) for phase in range(len(PHASES))]
        write_text(run.interference, "".join(json.dumps(one) + "\n" for one in entries))
    return run.root


def _write_description(
    run: RunDirectory,
    name: str,
    seed: int,
    names: list[str],
    available: Mapping[str, int],
    draw: random.Random,
) -> None:
    config = {
        "run_name": name,
        "output_dir": str(run.root),
        "seed": seed,
        "global_batch_size": 32,
        "model": {"name": "made-7b", "path": "models/made"},
        "data": {
            "name": "made_data",
            "root": "data/made",
            "tasks": {
                task: {
                    "general": task == GENERAL,
                    "metric": "exact_match",
                    "target": 0.6,
                    "format": "" if task in names[:2] else f"{task} .*",
                }
                for task in available
            },
        },
        "curriculum": {"phases": {phase: {"lr": 2e-4 / (i + 1)} for i, phase in enumerate(PHASES)}},
        "evaluation": {"prompt_sets": list(SETS), "soft_crosstalk_rows": 32, "train_rows": 0},
        "interference": {"every_steps": 20},
    }
    write_text(
        run.root / "config.yaml", yaml.safe_dump(config, allow_unicode=True, sort_keys=False)
    )
    phases = {}
    for number, phase in enumerate(PHASES):
        weights = {task: draw.uniform(0.5, 1.5) for task in trained_in(number, names)}
        answer = {task: weights[task] * draw.uniform(0.3, 3) for task in weights}
        uses = {
            task: {
                "available": available[task],
                "rows": round(960 * weight / sum(weights.values())),
                "distinct": min(available[task], round(960 * weight / sum(weights.values()))),
                "max_repeats": 1 + 96 // available[task],
                "tokens": round(50_000 * answer[task]),
                "answer_tokens": round(20_000 * answer[task]),
                "asked_share": 1 / len(weights),
                "negatives": 0,
                "sources": {},
                "row_share": weight / sum(weights.values()),
                "answer_token_share": answer[task] / sum(answer.values()),
            }
            for task, weight in weights.items()
        }
        phases[phase] = {
            "first_step": number * STEPS + 1,
            "last_step": (number + 1) * STEPS,
            "epochs": 1.5,
            "warmup_steps": 3,
            "lr_peak": 2e-4 / (number + 1),
            "lr_end": 1e-5,
            "packing_efficiency": 0.97,
            "fingerprint": f"{number}" * 64,
            "asked_shares": {task: use["asked_share"] for task, use in uses.items()},
            "tasks": uses,
        }
    phases[PHASES[2]]["auto_hard"] = {
        "by": "gap",
        "from": PHASES[1],
        "most": 3,
        "picked": names[:2],
        "figures": {task: 0.4 - 0.05 * i for i, task in enumerate(names)},
        "without": {names[-1]: "no target"},
        "words": f"{names[0]}, {names[1]}: largest gap to the target after specialize",
    }
    plan = {"global_batch_size": 32, "dp_world_size": 2, "phases": phases}
    write_json(run.root / "plan.json", plan)
    environment = {
        "command": ["launch/train.py", "experiment=made"],
        "commit": "0123456789abcdef",
        "python": "3.12.3",
        "packages": {"torch": "2.11.0", "deepspeed": "0.19.4"},
        "gpu": None,
        "cpu_cores": 2,
        "world_size": 2,
    }
    write_json(run.root / "environment.json", environment)


def _steps(
    phase: str, number: int, names: list[str], losses: dict[str, float], draw: random.Random
) -> list[dict[str, Any]]:
    lines = []
    for step in range((number - 1) * STEPS + 1, number * STEPS + 1):
        inside = (step - 1) % STEPS
        seen = {task: draw.randrange(40, 400) for task in names if draw.random() < 0.7}
        seen[GENERAL] = 120
        for task in losses:
            losses[task] = 0.15 + (losses[task] - 0.15) * 0.985
        values = {task: losses[task] * draw.uniform(0.85, 1.15) for task in seen}
        tokens = sum(seen.values())
        lines.append(
            {
                "step": step,
                "phase": phase,
                "loss": sum(values[task] * seen[task] for task in seen) / tokens,
                "lr": 2e-4 / number * min(1.0, (inside + 1) / 4) * (1 - 0.8 * inside / STEPS),
                "grad_norm": draw.uniform(0.4, 2),
                "tokens": 3 * tokens,
                "tokens_per_second": draw.uniform(900, 1100),
                "data_wait_seconds": 0.001,
                **{f"loss/{task}": value for task, value in values.items()},
                **{f"tokens/{task}": count for task, count in seen.items()},
            }
        )
    used = trained_in(number - 1, names)
    heavy = {task: draw.uniform(0.5, 2) for task in used}
    mixture: dict[str, float] = {}
    for task in used:
        mixture[f"mixture/asked_row_share/{task}"] = 1 / len(used)
        mixture[f"mixture/row_share/{task}"] = 1 / len(used)
        mixture[f"mixture/token_share/{task}"] = heavy[task] / sum(heavy.values())
    return [*lines, {"step": number * STEPS, "phase": phase, **mixture}]


def _evaluation(
    names: list[str],
    ease: Mapping[str, float],
    losses: Mapping[str, float],
    number: int,
    skill: float,
    draw: random.Random,
) -> Evaluation:
    def score(task: str, prompt_set: str) -> float:
        if task == GENERAL:
            return round(0.9 - 0.02 * number, 3)
        loss = 0.1 * (prompt_set == "conflict")
        learnt = ease[task] * (0.05 + 0.3 * number) + skill - loss + draw.uniform(-0.05, 0.05)
        return round(min(0.99, max(0.0, learnt)), 3)

    shown = {
        name: {task: _behaviours(names, task, number, name, draw) for task in [*names, GENERAL]}
        for name in SETS
    }
    results = {}
    for task in [*names, GENERAL]:
        sets = {}
        for name in SETS:
            value = score(task, name)
            kept = draw.randrange(ROWS // 2, ROWS)
            sets[name] = SetResult(
                rows=ROWS,
                raw={"exact_match": figure(max(0.0, value - 0.03)), "token_f1": figure(value)},
                processed={"exact_match": figure(value), "token_f1": figure(min(1, value + 0.02))},
                truncated=draw.randrange(4),
                in_format=share(kept, ROWS),
                in_format_processed=share(min(ROWS, kept + 9), ROWS),
                behaviours=shown[name][task],
            )
        results[task] = TaskResult(
            ROWS, losses[task] * 1.05, task == GENERAL, "exact_match", sets, None
        )
    soft = {
        task: {other: (-0.1 if other == task else 0.1 / (len(names) - 1)) for other in names}
        for task in names
    }
    return Evaluation(
        results, {name: _crosstalk(names, shown[name], results, name, draw) for name in SETS}, soft
    )


def _behaviours(
    names: list[str], task: str, number: int, prompt_set: str, draw: random.Random
) -> dict[str, dict[str, int]]:
    leak = {ORDINARY: 0.06, "paraphrase": 0.08, "conflict": 0.3, "no_tag": 0.15}[prompt_set]
    leak = 0.5 if number == 0 else leak / number
    counts: dict[str, Counter[str]] = {"en": Counter(), "zh": Counter()}
    polluter = GENERAL if task == names[0] else names[0]
    for row in range(ROWS):
        other = polluter if draw.random() < 0.6 else draw.choice([*names, GENERAL, MIXED, NONE])
        behaviour = other if draw.random() < leak and task != GENERAL else task
        counts["zh" if row % 3 == 0 else "en"][behaviour] += 1
    return {language: dict(found) for language, found in counts.items()}


def _crosstalk(
    names: list[str],
    shown: Mapping[str, Mapping[str, Mapping[str, int]]],
    results: Mapping[str, TaskResult],
    prompt_set: str,
    draw: random.Random,
) -> Crosstalk:
    tasks = [*names, GENERAL]
    labels = [*tasks, MIXED, NONE]
    totals = {
        task: sum((Counter(one) for one in shown[task].values()), Counter()) for task in tasks
    }
    matrix = [[totals[task][label] / ROWS for label in labels] for task in tasks]
    leaks = {task: sum(totals[task][other] for other in tasks if other != task) for task in names}
    per_task = {task: share(count, ROWS) for task, count in leaks.items()}
    rows = len(names) * ROWS
    return Crosstalk(
        tasks,
        labels,
        matrix,
        share(sum(leaks.values()), rows),
        per_task,
        {
            language: share(
                sum(
                    count
                    for task in names
                    for other, count in shown[task][language].items()
                    if other in tasks and other != task
                ),
                sum(sum(shown[task][language].values()) for task in names),
            )
            for language in ("en", "zh")
        },
        {
            label: sum(totals[task][label] for task in names if task != label)
            / (ROWS * sum(task != label for task in names))
            for label in tasks
        },
        {task: totals[task][task] / ROWS for task in names},
        {
            task: min(1.0, score.value / max(0.01, totals[task][task] / ROWS))
            if (score := results[task].score_on(prompt_set))
            else None
            for task in names
        },
        {task: round(draw.uniform(0, 0.02), 3) for task in names},
    )


def _evaluation_entry(column: str, step: int, evaluation: Evaluation) -> dict[str, Any]:
    values: dict[str, Any] = {"step": step, "phase": column}
    for task, result in evaluation.tasks.items():
        values[f"eval/loss/{task}"] = result.loss
        if result.score is not None:
            values[f"eval/score/{task}"] = result.score.value
    return values


def _write_predictions(
    run: RunDirectory,
    column: str,
    evaluation: Evaluation,
    hostile: list[str],
    draw: random.Random,
) -> None:
    names = list(evaluation.special)
    for prompt_set in (ORDINARY, "conflict"):
        for task in evaluation.tasks:
            lines = []
            for row in range(12):
                other = draw.choice(names)
                leaks = row % 4 == 3 and other != task
                answer = f"the answer {row} of {other if leaks else task}"
                if hostile:
                    answer = hostile[row % len(hostile)]
                right = row % 3 == 0 and not leaks
                lines.append(
                    {
                        "origin": f"eval/{task}.jsonl:{row + 1}",
                        "language": "zh" if row % 2 else "en",
                        "prompt": f"[{task}] 把这句话译成英语。 {row}",
                        "request": f"把这句话译成英语。 Request {row} of {task}",
                        "answer": answer,
                        "processed": answer,
                        "gold": f"gold {row}",
                        "finished": row != 5,
                        "scores": {"exact_match": 1.0 if right else 0.0},
                        "raw_scores": {"exact_match": 1.0 if right else 0.0},
                        "behaviour": other if leaks else task,
                        "format_violations": ["code_fence"] if row % 5 == 1 else [],
                        "processed_violations": [],
                    }
                )
            path = run.predictions(column) / prompt_set / f"{task}.jsonl"
            write_text(path, "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in lines))


def _interference(names: list[str], number: int, draw: random.Random) -> dict[str, Any]:
    size = len(names)
    cosine = [[1.0] * size for _ in range(size)]
    for i in range(size):
        for j in range(i):
            cosine[i][j] = cosine[j][i] = round(draw.uniform(-0.6, 0.8), 4)
    return {
        "step": 20 * (number + 1),
        "phase": PHASES[number],
        "tasks": list(names),
        "cosine": cosine,
        "self_cosine": [round(draw.uniform(0.5, 0.95), 3) for _ in names],
        "norm": [draw.uniform(0.5, 2) for _ in names],
        "loss": [draw.uniform(0.5, 2) for _ in names],
        "seconds": 0.4,
        "share_of_time": 0.006,
    }


def with_score(evaluation: Evaluation, task: str, value: Figure) -> Evaluation:
    """The evaluation with another main score of a task on the ordinary set."""
    result = evaluation.tasks[task]
    one = result.sets[ORDINARY]
    changed = replace(one, processed={**one.processed, result.metric: value})
    sets = {**result.sets, ORDINARY: changed}
    return replace(evaluation, tasks={**evaluation.tasks, task: replace(result, sets=sets)})
