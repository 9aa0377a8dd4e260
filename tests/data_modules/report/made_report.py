"""Reports made for tests: ten, or any number of, tasks that differ in every figure."""

from __future__ import annotations

import random
from bisect import bisect_right
from typing import Any

from data_modules.report import LENGTH_EDGES, QUALITY_EDGES, Histogram, Report, TaskReport

NAMES = (
    *("open_chat", "brainstorming", "classification", "code_generation", "summarization"),
    *("information_extraction", "logic_reasoning", "qa", "rewriting", "translation"),
)
RULES = (
    *("exact_duplicate", "near_duplicate", "contamination", "refusal", "placeholder", "encoding"),
    *("wrong_language", "open_fence", "tag_leak", "repetition", "foreign_behaviour", "too_short"),
)


def histogram(values: list[float], edges: list[float] = LENGTH_EDGES) -> Histogram:
    """Counts of the values between the edges."""
    counts = [0] * (len(edges) - 1)
    for value in values:
        counts[min(bisect_right(edges, value) - 1, len(counts) - 1)] += 1
    return {"edges": list(edges), "counts": counts}


def task_report(rows: int = 200, answer_tokens: int = 20, **changes: Any) -> TaskReport:
    """A task without a fault: all its rows are kept, in Chinese and English by halves."""
    task: TaskReport = {
        "general": False,
        "sources": {
            "main": {"files": 1, "read": rows, "not_selected": 0, "unreadable": 0, "kept": rows}
        },
        "read": rows,
        "not_selected": 0,
        "unreadable": 0,
        "rejects": {},
        "kept": rows,
        "negatives": 0,
        "unified": 0,
        "languages": {"en": rows - rows // 2, "zh": rows // 2},
        "tokens": rows * (30 + answer_tokens),
        "answer_tokens": rows * answer_tokens,
        "overlong": 0,
        "truncated": 0,
        "all_masked": 0,
        "histograms": {
            "prompt_tokens": histogram([30.0] * rows),
            "answer_tokens": histogram([float(answer_tokens)] * rows),
            "sample_tokens": histogram([30.0 + answer_tokens] * rows),
            "quality": histogram([0.8] * rows, QUALITY_EDGES),
        },
        "quality_mean": 0.8,
        "examples": [],
    }
    return {**task, **changes}  # type: ignore[typeddict-item]


def clean_report(**tasks: TaskReport) -> Report:
    """A report that calls for no advice; ``tasks`` replace its tasks or add to them."""
    return {
        "name": "clean",
        "root": "data/clean",
        "fingerprint": "0f" * 32,
        "seconds": 1.5,
        "tokenizer": "Qwen/Qwen2.5-7B",
        "max_seq_len": 2048,
        "rejects_file": ".cache/polyphase/clean/rejects.jsonl",
        "workers": 2,
        "tasks": {
            "chat": task_report(general=True),
            "qa": task_report(),
            "code": task_report(),
            **tasks,
        },
        "phases": {},
        "examples": {},
        "forced": {"kept": 0, "dropped": 0, "unknown_ids": []},
    }


def full_report(task_count: int = 10, seed: int = 7) -> Report:
    """A realistic report with something in every part of it."""
    draw = random.Random(seed)
    report = clean_report()
    names = [NAMES[i] if i < len(NAMES) else f"skill_{i:02d}" for i in range(task_count)]
    report |= {
        "name": "ten_tasks",
        "root": "../shared/data/ten_tasks",
        "seconds": 41.7,
        "workers": 4,
        "tasks": {name: _made_task(draw, name == "open_chat") for name in names},
    }
    specialised = [name for name in names if name != "open_chat"]
    cues = {
        name: {
            other: draw.randrange(1, 40) for other in draw.sample(specialised, 3) if other != name
        }
        for name in specialised[:12]
    }
    rows = sum(task["kept"] for task in report["tasks"].values())
    for phase in ("mix", "specialize", "hard"):
        tagged = int(rows * draw.uniform(0.85, 0.95))
        report["phases"][phase] = {
            "tagged": tagged,
            "untagged": rows - tagged,
            "cues": cues if phase == "mix" else {},
            "paraphrased": draw.randrange(rows // 4),
            "rows": rows,
        }
    report["examples"] = {
        rule: [
            {
                "task": draw.choice(specialised),
                "row_id": f"train/{draw.choice(specialised)}.jsonl:{draw.randrange(4000)}",
                "origin": f"train/{draw.choice(specialised)}.jsonl:{draw.randrange(4000)}",
                "reason": _REASONS.get(rule, f"found by {rule}"),
                "row": '{"instruction": "把这句话译成英语。", "input": "我家有四个人。", "output": "N/A"}',
            }
            for _ in range(draw.randrange(1, 4))
        ]
        for rule in (*RULES, "unreadable", "overlong")
    }
    report["forced"] = {"kept": 12, "dropped": 3, "unknown_ids": ["qa-0017", "qa-0018"]}
    return report


_REASONS = {
    "near_duplicate": "92 % like train/qa.jsonl:17",
    "contamination": "same request as eval/qa.jsonl:4",
    "placeholder": "the answer is 'N/A'",
    "unreadable": "line 17: not JSON: Expecting ',' delimiter",
    "overlong": "3,210 tokens, data.max_seq_len is 2048",
}


def _made_task(draw: random.Random, general: bool) -> TaskReport:
    readable = int(2 ** draw.uniform(6, 12.5))
    rejects = {
        rule: int(readable * draw.uniform(0, 0.05) * draw.choice((0, 0, 1))) for rule in RULES
    }
    kept = readable - sum(rejects.values())
    unreadable = draw.choice((0, 0, 0, draw.randrange(1, 9)))
    not_selected = draw.choice((0, 0, readable // 7))
    prompts = [draw.lognormvariate(4, 0.5) for _ in range(kept)]
    middle = draw.uniform(1, 6)
    answers = [draw.lognormvariate(middle, 0.6) for _ in range(kept)]
    samples = [one + other + 12 for one, other in zip(prompts, answers, strict=True)]
    overlong = sum(length > 2048 for length in samples)
    quality = [min(1.0, max(0.0, draw.gauss(0.72, 0.15))) for _ in range(kept)]
    chinese = int(kept * draw.choice((0, 0.3, 0.6)))
    read = readable + unreadable + not_selected
    return {
        "general": general,
        "sources": {
            "main": {
                "files": 1,
                "read": read,
                "not_selected": not_selected,
                "unreadable": unreadable,
                "kept": kept,
            }
        },
        "read": read,
        "not_selected": not_selected,
        "unreadable": unreadable,
        "rejects": rejects,
        "kept": kept,
        "negatives": kept // 20,
        "unified": kept // 9,
        "languages": {"zh": chinese, "en": kept - chinese - kept // 50, "": kept // 50},
        "tokens": int(sum(length for length in samples if length <= 2048)),
        "answer_tokens": int(sum(answers)),
        "overlong": overlong,
        "truncated": 0,
        "all_masked": 0,
        "histograms": {
            "prompt_tokens": histogram(prompts),
            "answer_tokens": histogram(answers),
            "sample_tokens": histogram(samples),
            "quality": histogram(quality, QUALITY_EDGES),
        },
        "quality_mean": sum(quality) / len(quality),
        "examples": [
            {
                "row_id": "train/qa.jsonl:3",
                "request": "请把下面的句子翻译成英文，并保持语气。\n我家有四个人。",
                "answer": "There are four people in my family.\n\n```python\nprint('four')\n```",
            },
            {"row_id": "qa-17", "request": "What is the capital of France?", "answer": "Paris."},
        ],
    }
