"""The shipped task files: their words in Chinese and English, and the benchmark's cues."""

from __future__ import annotations

from functools import cache
from itertools import islice
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from data_modules.benchmark import ALL_TASKS, TASKS, BenchmarkSpec, build_tokenizer, rows
from data_modules.benchmark.tasks import CUES
from data_modules.config import BoundaryConfig, DataConfig, PromptSet, TaskConfig
from data_modules.mixture import PromptConfig
from data_modules.prompt_sets import available
from data_modules.records import Message, Record
from data_modules.wording import NO_BOUNDARY, prompt_for, worded

FOLDER = Path(__file__).resolve().parents[2] / "conf/task"
LANGUAGES = {"zh", "en"}


@cache
def tasks_of(folder: str) -> dict[str, TaskConfig]:
    """Merged onto the schema, which refuses unknown fields and values."""
    schema = OmegaConf.structured(TaskConfig)
    return {
        path.stem: OmegaConf.to_object(OmegaConf.merge(schema, OmegaConf.load(path)))
        for path in sorted((FOLDER / folder).glob("*.yaml"))
    }


TEN = sorted(name for name, task in tasks_of("ten_tasks").items() if not task.general)


@pytest.mark.parametrize("name", TEN)
def test_a_task_speaks_chinese_and_english(name: str) -> None:
    task = tasks_of("ten_tasks")[name]
    assert task.tags.keys() == task.constraints.keys() == task.paraphrases.keys() == LANGUAGES
    for texts in (task.tags, task.constraints):
        assert not texts["zh"].isascii()
        assert texts["en"].isascii()
    for templates in task.paraphrases.values():
        assert 2 <= len(templates) == len(set(templates)) <= 4
        assert all(template.count("{instruction}") == 1 for template in templates)


@pytest.mark.parametrize("name", tasks_of("ten_tasks"))
def test_a_task_is_evaluated_in_words_of_its_own(name: str) -> None:
    tasks = tasks_of("ten_tasks")
    trained = {
        template
        for task in tasks.values()
        for templates in task.paraphrases.values()
        for template in templates
    }
    held_out = tasks[name].eval_paraphrases
    assert held_out.keys() == LANGUAGES
    for language, templates in held_out.items():
        assert 2 <= len(templates) == len(set(templates)) <= 4
        for template in templates:
            assert template.count("{instruction}") == 1
            assert template not in trained
            words = template.replace("{instruction}", "")
            assert words.isascii() == (language == "en")


@pytest.mark.parametrize("prompt_set", PromptSet)
def test_every_prompt_set_can_be_asked_of_the_ten_tasks(prompt_set: PromptSet) -> None:
    data = DataConfig(tasks=tasks_of("ten_tasks"))
    assert not any(available(data, task, prompt_set) for task in data.tasks)


def test_texts_and_cues_tell_the_ten_tasks_apart() -> None:
    tasks = [tasks_of("ten_tasks")[name] for name in TEN]
    for language in ("zh", "en", "other"):
        tags = {task.tags.get(language, task.tag) for task in tasks}
        constraints = {task.constraints.get(language, task.constraint) for task in tasks}
        assert len(tags) == len(constraints) == len(tasks) == 9
    cues = [cue.strip() for task in tasks for cue in task.cues]
    assert all(cues)
    assert len(cues) == len(set(cues))


def test_general_tasks_stay_what_users_type() -> None:
    general = [
        task
        for folder in ("ten_tasks", "bench")
        for task in tasks_of(folder).values()
        if task.general
    ]
    assert len(general) == 2
    for task in general:
        texts = (task.tag, task.constraint, task.tags, task.constraints)
        assert not any((*texts, task.cues, task.paraphrases))


def test_benchmark_cues_are_the_generators() -> None:
    tasks = tasks_of("bench")
    assert {name: task.cues for name, task in tasks.items() if task.cues} == {
        name: [f" {cue}"] for name, cue in CUES.items()
    }


def benchmark_record(task: str, number: int, row: dict[str, str]) -> Record:
    content = f"{row['instruction']}\n{row['input']}"
    turns = (Message("user", content), Message("assistant", row["output"]))
    return Record(
        task, turns, f"{task}:{number}", f"{task}:{number}", instruction=row["instruction"]
    )


@pytest.mark.parametrize("name", TASKS)
def test_a_cue_is_the_last_symbol_of_a_benchmark_request(name: str) -> None:
    tasks, tokenizer = tasks_of("bench"), build_tokenizer()
    boundary, spec = BoundaryConfig(), BenchmarkSpec()
    for number, row in enumerate(islice(rows(spec, "train", name), 40)):
        record = benchmark_record(name, number, row)
        bare = record.request.removesuffix(f" {CUES[name]}")
        plain = worded(record, tasks, boundary, PromptConfig(), "mix", 0).messages[0].content
        assert plain.splitlines()[-2] == row["input"]
        result = worded(record, tasks, boundary, PromptConfig(cue_share=1), "mix", 0)
        cue = CUES[result.cue_of]
        assert cue != CUES[name]
        assert result.messages == (
            Message("user", f"<tag_{name}> {bare} {cue}\n#only_{name}"),
            record.messages[1],
        )
        ids = tokenizer.encode(result.messages[0].content, add_special_tokens=False)
        assert tokenizer.convert_ids_to_tokens(ids)[-3:] == [cue, "<sep>", f"#only_{name}"]
        assert tokenizer.unk_token_id not in ids


def test_general_benchmark_rows_are_never_touched() -> None:
    tasks, name = tasks_of("bench"), ALL_TASKS[-1]
    assert tasks[name].general
    row = next(rows(BenchmarkSpec(), "train", name))
    record = benchmark_record(name, 0, row)
    everything = PromptConfig(1, 1, 1)
    assert worded(record, tasks, BoundaryConfig(), everything, "mix", 0).messages == record.messages


@pytest.mark.parametrize("name", TEN)
def test_any_other_task_can_give_a_cue(name: str) -> None:
    tasks = tasks_of("ten_tasks")
    turns = (Message("user", "Do this."), Message("assistant", "Done."))
    seen = {
        worded(
            Record(name, turns, f"f:{i}", language="en"),
            tasks,
            NO_BOUNDARY,
            PromptConfig(cue_share=1),
            "mix",
            0,
        ).cue_of
        for i in range(400)
    }
    assert seen == set(TEN) - {name}


def test_a_prompt_of_the_ten_tasks() -> None:
    tasks = tasks_of("ten_tasks")
    assert (
        prompt_for("qa", "谁？", tasks, BoundaryConfig(), "zh") == "[问答] 谁？\n只回答问题本身。"
    )
    assert prompt_for("qa", "Who?", tasks, BoundaryConfig(), "en") == (
        "[QA] Who?\nOnly answer the question."
    )
