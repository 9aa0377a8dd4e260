"""Every rule of the data settings: place, value, rule and remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_modules.benchmark import BenchmarkSpec
from data_modules.config import PostProcess, PromptSet, SourceConfig, TaskConfig, Unification
from data_modules.faults import ConfigFault, Fault
from tests.shared_config import Rule, both, check, faults_of, numbered, put, sound_config
from trainer.config.schema import Config
from trainer.config.validate import validate
from trainer.evaluation import sandbox


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    return sound_config(tmp_path)


CLEANING = "data.cleaning"
RULES: list[Rule] = [
    # change, where, seen, rule, part of the remedy
    (put("data.workers", 0), "data.workers", "0", "it must be at least 1", ""),
    (put("data.max_seq_len", 7), "data.max_seq_len", "7", "it must be at least 8", ""),
    (put("data.rows_per_task", 0), "data.rows_per_task", "0", "it must be at least 1", ""),
    (put("data.repeats_warning", 0), "data.repeats_warning", "0", "it must be at least 1", ""),
    *(
        (put(key, -0.5), key, "-0.5", "it must be at least 0", "")
        for key in (
            "data.negatives.cross_task",
            "data.negatives.swapped_instruction",
            "data.tasks.qa.sources.main.weight",
        )
    ),
    (
        put("data.max_reject_ratio", 1.1),
        "data.max_reject_ratio",
        "1.1",
        "it must be in [0, 1]",
        "",
    ),
    (
        put("data.tasks", {}),
        "data.tasks",
        "no task under data",
        "a run needs one",
        "data.discover=true",
    ),
    (
        put("data.groups.qa", ["code"]),
        "data.tasks.qa",
        "also the name of a group",
        "a phase must be able to tell them apart",
        "Rename the task or the group.",
    ),
    (
        put("data.tasks.all", TaskConfig({"main": SourceConfig("train/qa.jsonl")})),
        "data.tasks.all",
        "also the name of a group",
        "a phase must be able to tell them apart",
        "Rename",
    ),
    (
        put("data.tasks.general", TaskConfig({"main": SourceConfig("train/qa.jsonl")})),
        "data.tasks.general",
        "also the name of a group",
        "a phase must be able to tell them apart",
        "or set general=true",
    ),
    (
        put("data.tasks.qa.max_new_tokens", 0),
        "data.tasks.qa.max_new_tokens",
        "0",
        "it must be at least 1",
        "",
    ),
    (
        put("data.tasks.qa.sources.main.eval", "eval/nosuch.jsonl"),
        "data.tasks.qa.sources.main.eval",
        "cannot read data/eval/nosuch.jsonl (No such file or directory)",
        "every source needs a readable file, glob or folder",
        "data.tasks.qa.sources.main.eval='' to leave the task out of evaluation",
    ),
    (put("data.root", "nosuch"), "data.root", "nosuch", "no such directory", "train/ and eval/"),
    (
        put("data.tasks.qa.sources", {}),
        "data.tasks.qa.sources",
        "none",
        "a task has rows from somewhere",
        "Set data.tasks.qa.sources.main.train=FILE.",
    ),
    (
        put("data.tasks.qa.sources.main", SourceConfig()),
        "data.tasks.qa.sources",
        "none",
        "a task has rows from somewhere",
        "Set data.tasks.qa.sources.main.train=FILE.",
    ),
    (
        put("data.tasks.qa.sources.main.eval", "eval/*.nosuch"),
        "data.tasks.qa.sources.main.eval",
        "no file matches data/eval/*.nosuch",
        "data files end on .jsonl",
        "data.tasks.qa.sources.main.eval='' to leave the task out of evaluation",
    ),
    (
        put("data.tasks.qa.sources.main.eval_sets", {PromptSet.conflict: "eval/*.nosuch"}),
        "data.tasks.qa.sources.main.eval_sets.conflict",
        "no file matches data/eval/*.nosuch",
        "data files end on .jsonl",
        "data.tasks.qa.sources.main.eval_sets.conflict='' to have the set made",
    ),
    (
        put("data.tasks.qa.sources.main.eval_sets", {PromptSet.ordinary: "eval/qa.jsonl"}),
        "data.tasks.qa.sources.main.eval_sets",
        "ordinary",
        "the ordinary set is made of eval",
        "Name the file there.",
    ),
    (
        put("data.tasks.qa.eval_paraphrases", {"en": [""]}),
        "data.tasks.qa.eval_paraphrases.en",
        "an empty template",
        "a template rephrases an instruction",
        "Write it with {instruction} where the instruction goes.",
    ),
    (
        both(
            put("data.tasks.qa.paraphrases", {"any": ["Please: {instruction}"]}),
            put("data.tasks.qa.eval_paraphrases", {"en": ["Please: {instruction}"]}),
        ),
        "data.tasks.qa.eval_paraphrases.en",
        "'Please: {instruction}'",
        "evaluation asks in words that training does not use",
        "Take it out here or of data.tasks.qa.paraphrases.",
    ),
    (
        put("data.tasks.qa.paraphrases", {"en": ["Please: {instruction}", " "]}),
        "data.tasks.qa.paraphrases.en",
        "an empty template",
        "a template rephrases an instruction",
        "Write it with {instruction} where the instruction goes.",
    ),
    (
        both(
            put("data.tasks.qa.unify", [Unification.code_fence]),
            put("data.tasks.qa.code_language", " "),
        ),
        "data.tasks.qa.code_language",
        "empty",
        "unify: [code_fence] names the language of every fence",
        "For example python.",
    ),
    # how answers are judged
    (
        put("data.tasks.qa.metric", "exactmatch"),
        "data.tasks.qa.metric",
        "exactmatch",
        "no metric has this name",
        "Did you mean exact_match",
    ),
    (
        both(put("data.tasks.qa.metric", "chrf"), put("data.tasks.qa.metrics", ["bleu", "rouge"])),
        "data.tasks.qa.metrics",
        "rouge",
        "no metric has this name",
        "rouge_l",
    ),
    (
        put("data.tasks.qa.metric", "nosuchmodule:Metric"),
        "data.tasks.qa.metric",
        "nosuchmodule:Metric",
        "module:attribute must be importable",
        "No module named 'nosuchmodule'",
    ),
    (
        put("data.tasks.qa.metrics", ["bleu", "chrf"]),
        "data.tasks.qa.metrics",
        "bleu, chrf",
        "beside metric: none they judge nothing",
        "Set data.tasks.qa.metric.",
    ),
    (
        put("data.tasks.qa.format", "UP|(DOWN"),
        "data.tasks.qa.format",
        "UP|(DOWN",
        "no regular expression (missing ), unterminated subpattern at position 3)",
        "",
    ),
    (
        put("data.tasks.qa.postprocess", [PostProcess.strip, PostProcess.first_format]),
        "data.tasks.qa.postprocess",
        "first_format",
        "it takes the first stretch that has the task's format",
        "Set data.tasks.qa.format",
    ),
    # cleaning
    (
        put(f"{CLEANING}.min_answer_chars", -1),
        f"{CLEANING}.min_answer_chars",
        "-1",
        "it must be at least 0",
        "",
    ),
    *(
        (put(f"{CLEANING}.{name}", 0), f"{CLEANING}.{name}", "0", "it must be at least 1", "")
        for name in ("max_answer_chars", "max_prompt_chars")
    ),
    (
        both(put(f"{CLEANING}.min_answer_chars", 9), put(f"{CLEANING}.max_answer_chars", 8)),
        f"{CLEANING}.max_answer_chars",
        "8",
        "it must not be below min_answer_chars (9)",
        "",
    ),
    *(
        (put(f"{CLEANING}.{name}", value), f"{CLEANING}.{name}", f"{value}", "in [0, 1]", "")
        for name in ("min_quality", "max_drop_ratio", "max_repetition", "near_duplicates")
        for value in (1.5,)
    ),
    (
        put(f"{CLEANING}.near_duplicates", 0.0),
        f"{CLEANING}.near_duplicates",
        "0",
        "it must be above 0",
        "",
    ),
    (
        put(f"{CLEANING}.across_tasks", True),
        f"{CLEANING}.across_tasks",
        "true",
        "it widens the search for duplicates, which is off",
        "Set data.cleaning.exact_duplicates=true.",
    ),
]


@pytest.mark.parametrize("rule", RULES, ids=numbered(RULES))
def test_rule(config: Config, rule: Rule) -> None:
    check(config, rule)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("near_duplicates", value) for value in (None, 0.01, 1.0)),
        *(("max_repetition", value) for value in (None, 0.0, 1.0)),
        ("max_answer_chars", 1),
        ("max_drop_ratio", 0.0),
        ("min_quality", 1.0),
    ],
)
def test_the_ends_of_the_ranges_are_sound(config: Config, name: str, value: float | None) -> None:
    put(f"{CLEANING}.{name}", value)(config)
    validate(config, 1)


@pytest.mark.parametrize("name", ["exact_duplicates", "near_duplicates"])
def test_either_kind_of_duplicates_may_be_sought_across_tasks(config: Config, name: str) -> None:
    config.data.cleaning.across_tasks = True
    put(f"{CLEANING}.{name}", 1.0 if name == "near_duplicates" else True)(config)
    validate(config, 1)


def test_a_task_without_training_rows_may_be_evaluated(config: Config) -> None:
    config.data.tasks["qa"].sources["main"].train = ""
    config.curriculum.phases["mix"].tasks = ["code"]
    validate(config, 1)


def test_every_evaluation_source_of_a_task_is_looked_at(config: Config) -> None:
    sources = config.data.tasks["qa"].sources
    sources["more"] = SourceConfig(eval="eval/gone.jsonl")
    sources["hub"] = SourceConfig(eval="hub:owner/name")
    (fault,) = faults_of(config)
    assert fault.where == "data.tasks.qa.sources.more.eval"
    assert fault.seen.startswith("cannot read data/eval/gone.jsonl")


def test_a_missing_root_is_one_fault_and_not_many(config: Config) -> None:
    config.data.root, config.data.tasks, config.data.groups = "nosuch", {}, {}
    (fault,) = faults_of(config)
    assert fault.where == "data.root"


def test_a_root_in_which_nothing_can_be_discovered_is_one_fault(config: Config) -> None:
    config.data.discover, config.data.tasks["qa"].sources = True, {}
    (fault,) = faults_of(config)
    assert fault.where == "data.tasks.qa.sources", "no file of that name is there"
    config.data.root = "nosuch"
    (fault,) = faults_of(config)
    assert fault.where == "data.root"


def test_evaluation_files_do_not_matter_without_evaluation(config: Config) -> None:
    config.data.tasks["qa"].sources["main"].eval = "eval/nosuch.jsonl"
    config.evaluation.before_training = False
    assert [fault.where for fault in faults_of(config)] == ["data.tasks.qa.sources.main.eval"]
    config.evaluation.at_phase_end = False
    validate(config, 1)


def test_the_benchmark_makes_its_root(config: Config) -> None:
    config.data.root, config.data.benchmark = "nosuch", BenchmarkSpec()
    validate(config, 1)


@pytest.mark.parametrize("where", ["hub:owner/name", "eval/*.jsonl", "eval", ""])
def test_evaluation_sources_that_only_reading_can_judge(config: Config, where: str) -> None:
    config.data.tasks["qa"].sources["main"].eval = where
    validate(config, 1)


@pytest.mark.parametrize("generates", [True, False])
def test_programs_must_be_confinable_only_where_answers_are_run(
    config: Config, monkeypatch: pytest.MonkeyPatch, generates: bool
) -> None:
    def refuse() -> None:
        raise ConfigFault(Fault("execution", "no seccomp", "programs must be confined"))

    monkeypatch.setattr(sandbox, "check_limits", refuse)
    config.data.tasks["code"].metric = "code_tests"
    config.evaluation.generate = generates
    if generates:
        (fault,) = faults_of(config)
        assert (fault.where, fault.rule) == ("data.tasks.code.metric", "programs must be confined")
        config.data.tasks["code"].sources["main"].eval = ""
    validate(config, 1)
