"""Fifty rows of ten kinds of fault, put among clean rows, are all found; clean rows stay."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import yaml

from data_modules.cleaning import compared_texts, find_duplicates, row_rules, signatures
from data_modules.config import Behaviour, CleaningConfig, TaskConfig
from data_modules.records import Message, Record
from tests.shared_data import REPOSITORY, shared

FORBIDDEN = {
    "translation": [Behaviour.code, Behaviour.list, Behaviour.json],
    "classification": [Behaviour.code, Behaviour.json],
    "qa": [Behaviour.json],
    "summarization": [Behaviour.code, Behaviour.json, Behaviour.question],
    "rewriting": [Behaviour.code, Behaviour.list, Behaviour.json],
    "information_extraction": [Behaviour.code],
    "logic_reasoning": [Behaviour.json],
    "brainstorming": [Behaviour.json],
}


def task_of(name: str) -> TaskConfig:
    return TaskConfig(
        tag=f"[{name.upper()}]",
        constraints={"zh": f"请只做{name}。", "en": f"Do {name} only."},
        forbidden=FORBIDDEN.get(name, []),
        translates=name == "translation",
        answer_languages=[] if name == "code_generation" else ["zh", "en"],
    )


def record_of(task: str, instruction: str, text: str, answer: str, origin: str) -> Record:
    request = f"{instruction}\n{text}" if text else instruction
    turns = (Message("user", request), Message("assistant", answer))
    return Record(task, turns, origin, origin, instruction=instruction)


def real_rows(split: str) -> list[Record]:
    rows = []
    for path in sorted((shared("data/ten_tasks") / split).glob("*.jsonl")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            row = json.loads(line)
            texts = (row["instruction"], row["input"], row["output"])
            rows.append(record_of(row["task"], *texts, f"{split}/{path.name}:{number}"))
    return rows


def made_rows(split: str) -> list[Record]:
    """600 rows of four tasks in Chinese and English, of random words."""
    chance = random.Random(split)
    syllables = [first + vowel for first in "bcdfghklmnprstvw" for vowel in "aeiou"]
    # two syllables at least: "de" and "la" are words of other languages
    english = ["".join(chance.choices(syllables, k=n % 3 + 2)) for n in range(900)]
    chinese = [chr(chance.randrange(0x4E00, 0x8FFF)) for _ in range(900)]

    def en(count: int) -> str:
        words = chance.choices(english, k=count)
        return " ".join(["The", *words[: count // 2], "is", *words[count // 2 :]]) + "."

    def zh(count: int) -> str:
        return "".join(chance.choices(chinese, k=count)) + "。"

    makers: list[Callable[[], tuple[str, str, str, str]]] = [
        lambda: ("qa", f"What is {en(8)[4:-1]}?", en(60), en(20)),
        lambda: ("qa", zh(12) + "是什么？", zh(60), zh(25)),
        lambda: ("translation", "Translate into Chinese.", en(9), zh(12)),
        lambda: ("translation", "把下面的句子译成英语。", zh(12), en(9)),
        lambda: ("summarization", "Summarise this.", en(60), en(12)),
        lambda: ("code_generation", f"Write a function of {en(9)}", "",
                 f"def {chance.choice(english)}(x):\n    y = {en(9).replace(' ', '_')}x\n    return y"),
    ]  # fmt: skip
    count = 600 if split == "train" else 60
    return [record_of(*makers[n % 6](), f"{split}:{n}") for n in range(count)]


def answered(record: Record, answer: str) -> Record:
    return replace(record, messages=(*record.messages[:-1], Message("assistant", answer)))


def edited(text: str) -> str:
    """A text with a letter more in its middle."""
    return f"{text[: len(text) // 2]}x{text[len(text) // 2 :]}"


def planted(clean: Sequence[Record], tasks: dict[str, TaskConfig]) -> list[tuple[str, Record]]:
    """Five faulty rows of each of ten kinds, with the rule that is to find them."""
    chance = random.Random(11)
    prose = [
        r for r in clean if r.task == "qa" and 80 < len(r.answer) < 600 and len(r.request) > 80
    ]
    assert len(prose) > 40
    translations = [r for r in clean if r.task == "translation"]
    rows = iter(chance.sample(prose, 40))
    refusals = (
        "I'm sorry, but I can't assist with that.",
        "抱歉，我无法提供这方面的信息。",
        "As an AI language model, I don't have access to this.",
        "作为一个人工智能助手，我不能回答这个问题。",
        "Unfortunately, I am unable to provide an answer.",
    )
    tags = [
        text for task in tasks.values() for text in (task.tag, *task.constraints.values()) if text
    ]
    foreign = (
        '{"answer": "yes"}', '[{"a": 1}]', '```json\n{"a": [1, 2]}\n```', '{"名称": "值"}',
        '["one", "two"]',
    )  # fmt: skip
    loops = ("and then again ", "我也这样认为，", "yes ", "The cat sat on the mat. ", "重复")
    changes: dict[str, Callable[[Record, int], str]] = {
        "placeholder": lambda _, n: ("N/A", "...", "TODO", "待补充", "[answer here]")[n],
        "encoding": lambda r, n: r.answer + (
            " CafÃ©", " donâ€™t", " \ufffd\ufffd", "你好世界".encode().decode("latin-1"), "\x00",
        )[n],
        "open_fence": lambda r, n: f"{r.answer}\n```{('python', '', 'js', 'sql', 'c')[n]}\nx = 1",
        "refusal": lambda _, n: refusals[n],
        "tag_leak": lambda r, n: (f"{tags[n]} {r.answer}", f"{r.answer}\n{tags[n]}")[n % 2],
        "foreign_behaviour": lambda _, n: foreign[n],
        "repetition": lambda _, n: loops[n] * 40,
        "exact_duplicate": lambda r, n: r.answer.upper() if n % 2 else f"  {r.answer}\n",
    }  # fmt: skip
    out = [
        (name, answered(next(rows), ""), change, n)
        for name, change in changes.items()
        for n in range(5)
    ]
    faulty = []
    originals = {record.origin: record for record in clean}
    for name, empty, change, n in out:
        original = originals[empty.origin]
        faulty.append((name, answered(original, change(original, n))))
    for n, original in enumerate(chance.sample(translations, 5)):
        source = original.request.split("\n", 1)[1]
        answer = source if n % 2 else edited(source)
        faulty.append(("wrong_language", answered(original, answer)))
    long = [r for r in clean if len(r.answer) > 150 and len(r.request) > 150 and r.task == "qa"]
    long = long or prose
    for original in chance.sample(long, 5):
        request = Message("user", edited(original.request))
        turns = (request, Message("assistant", edited(original.answer)))
        faulty.append(("near_duplicate", replace(original, messages=turns)))
    return [
        (name, replace(record, origin=f"planted:{place}", row_id=f"planted:{place}"))
        for place, (name, record) in enumerate(faulty)
    ]


def cleaned(
    records: Sequence[Record], evaluation: Sequence[Record], tasks: dict[str, TaskConfig]
) -> dict[str, str]:
    """Row id -> rule of all rows that the preset ``standard`` leaves out."""
    path = REPOSITORY / "conf/cleaning/standard.yaml"
    values: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    cleaning = CleaningConfig(**values)
    rules = row_rules(cleaning, tasks)
    verdicts: dict[str, str] = {}
    for record in records:
        for rule in rules:
            if rule.check(record, tasks[record.task]):
                verdicts[record.row_id] = rule.name
                break
    kept = [record for record in records if record.row_id not in verdicts]
    names = sorted(tasks)
    found = find_duplicates(
        np.array([names.index(record.task) for record in kept]),
        [signatures(kept[start : start + 500], True) for start in range(0, len(kept), 500)],
        cleaning,
        lambda row: compared_texts(kept[row]),
        [signatures(evaluation, True)],
        lambda row: compared_texts(evaluation[row]),
    )
    return verdicts | {kept[finding.row].row_id: finding.rule for finding in found}


@pytest.mark.parametrize("rows_of", [made_rows, real_rows])
def test_planted_faults_are_found_and_clean_rows_stay(
    rows_of: Callable[[str], list[Record]],
) -> None:
    clean, evaluation = rows_of("train"), rows_of("eval")
    tasks = {name: task_of(name) for name in sorted({record.task for record in clean})}
    faulty = planted(clean, tasks)
    assert len(faulty) == 50
    assert set(Counter(name for name, _ in faulty).values()) == {5}
    chance = random.Random(2)
    contaminated = [
        replace(
            answered(row, "Another answer altogether."),
            origin=f"contaminated:{n}",
            row_id=f"contaminated:{n}",
        )
        for n, row in enumerate(chance.sample([r for r in evaluation if r.task == "qa"], 5))
    ]
    # the originals come first: the copy goes, wherever the two stand
    records = [*clean, *(record for _, record in faulty), *contaminated]
    verdicts = cleaned(records, evaluation, tasks)
    seen = {record.row_id: verdicts.get(record.row_id) for _, record in faulty}
    assert seen == {record.row_id: name for name, record in faulty}
    assert [verdicts.get(record.row_id) for record in contaminated] == ["contamination"] * 5
    lost = {record.row_id: verdicts[record.row_id] for record in clean if record.row_id in verdicts}
    assert len(lost) <= len(clean) / 100, lost
    # Nothing of the made rows is faulty; the real ones hold one answer of "As an AI model, I don't".
    expected = {} if rows_of is made_rows else {"train/qa.jsonl:412": "refusal"}
    assert lost == expected
