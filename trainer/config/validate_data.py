"""Rules of the data settings: tasks, sources, cleaning, negatives and limits."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from data_modules.config import (
    CleaningConfig,
    DataConfig,
    PostProcess,
    PromptSet,
    TaskConfig,
    Unification,
)
from data_modules.faults import ConfigFault, DataFault, Fault
from data_modules.mixture import AUTO_HARD
from data_modules.sources.files import HUB, source_files
from data_modules.wording import INSTRUCTION
from trainer.config.rules import above_zero, at_least, share
from trainer.config.schema import Config
from trainer.config.validate_mixture import has_root
from trainer.evaluation.metrics import NO_METRIC, check_metric


def data_faults(config: Config) -> Iterator[Fault]:
    """Every fault of ``config.data`` that shows without reading a row."""
    data, faults = config.data, list[Fault]()
    at_least("data.max_seq_len", data.max_seq_len, 8, faults)
    at_least("data.rows_per_task", data.rows_per_task, 1, faults)
    at_least("data.repeats_warning", data.repeats_warning, 1, faults)
    at_least("data.workers", data.workers, 1, faults)
    share("data.max_reject_ratio", data.max_reject_ratio, faults)
    for name in ("cross_task", "swapped_instruction"):
        at_least(f"data.negatives.{name}", getattr(data.negatives, name), 0, faults)
    _cleaning("data.cleaning", data.cleaning, faults)
    yield from faults
    if not has_root(data):
        remedy = "Set data.root to the folder that holds train/ and eval/."
        yield Fault("data.root", data.root, "no such directory", remedy)
    elif not data.tasks:
        remedy = "Choose data=..., or data.discover=true with train/<task>.jsonl under data.root."
        yield Fault("data.tasks", f"no task under {data.root}", "a run needs one", remedy)
    if AUTO_HARD in data.groups:
        rule = "a phase's tasks: [auto_hard] are picked by an evaluation"
        yield Fault(f"data.groups.{AUTO_HARD}", "a reserved name", rule, "Rename the group.")
    evaluates = (
        config.evaluation.before_training
        or config.evaluation.at_phase_end
        or config.evaluation.every_steps is not None
    )
    for name, task in data.tasks.items():
        yield from _task(f"data.tasks.{name}", name, task, data)
        asked = evaluates and config.evaluation.generate and task.is_evaluated
        yield from _judging(f"data.tasks.{name}", task, asked)
        if evaluates and has_root(data) and data.benchmark is None:
            yield from _evaluation_files(f"data.tasks.{name}", task, data)


def _cleaning(key: str, cleaning: CleaningConfig, faults: list[Fault]) -> None:
    at_least(f"{key}.min_answer_chars", cleaning.min_answer_chars, 0, faults)
    for name in ("max_answer_chars", "max_prompt_chars"):
        at_least(f"{key}.{name}", getattr(cleaning, name), 1, faults)
    share(f"{key}.min_quality", cleaning.min_quality, faults)
    share(f"{key}.max_drop_ratio", cleaning.max_drop_ratio, faults)
    if cleaning.max_repetition is not None:
        share(f"{key}.max_repetition", cleaning.max_repetition, faults)
    if cleaning.near_duplicates is not None:
        above_zero(f"{key}.near_duplicates", cleaning.near_duplicates, faults)
        share(f"{key}.near_duplicates", cleaning.near_duplicates, faults)
    if (
        cleaning.max_answer_chars is not None
        and cleaning.max_answer_chars < cleaning.min_answer_chars
    ):
        seen = f"{cleaning.max_answer_chars}"
        rule = f"it must not be below min_answer_chars ({cleaning.min_answer_chars})"
        faults.append(Fault(f"{key}.max_answer_chars", seen, rule))
    compares = cleaning.exact_duplicates or cleaning.near_duplicates is not None
    if cleaning.across_tasks and not compares:
        rule = "it widens the search for duplicates, which is off"
        faults.append(
            Fault(f"{key}.across_tasks", "true", rule, f"Set {key}.exact_duplicates=true.")
        )


def _task(key: str, name: str, task: TaskConfig, data: DataConfig) -> Iterator[Fault]:
    faults: list[Fault] = []
    reserved = ("all", AUTO_HARD)
    if name in data.groups or name in reserved or (name == "general" and not task.general):
        seen, rule = "also the name of a group", "a phase must be able to tell them apart"
        remedy = f"Rename the task or the group{', or set general=true' * (name == 'general')}."
        faults.append(Fault(key, seen, rule, remedy))
    at_least(f"{key}.max_new_tokens", task.max_new_tokens, 1, faults)
    undiscovered = data.discover and not has_root(data)  # one fault of the root, not of every task
    has_rows = any(source.train or source.eval for source in task.sources.values())
    if not has_rows and not undiscovered:
        remedy = f"Set {key}.sources.main.train=FILE."
        faults.append(Fault(f"{key}.sources", "none", "a task has rows from somewhere", remedy))
    for source_name, source in task.sources.items():
        at_least(f"{key}.sources.{source_name}.weight", source.weight, 0, faults)
        if PromptSet.ordinary in source.eval_sets:
            where = f"{key}.sources.{source_name}.eval_sets"
            rule = "the ordinary set is made of eval"
            faults.append(Fault(where, PromptSet.ordinary.value, rule, "Name the file there."))
    faults += _templates(key, task)
    if Unification.code_fence in task.unify and not task.code_language.strip():
        remedy = "For example python."
        rule = "unify: [code_fence] names the language of every fence"
        faults.append(Fault(f"{key}.code_language", "empty", rule, remedy))
    yield from faults


def _templates(key: str, task: TaskConfig) -> Iterator[Fault]:
    for kind in ("paraphrases", "eval_paraphrases"):
        for language, templates in getattr(task, kind).items():
            for template in templates:
                if not template.strip():
                    where = f"{key}.{kind}.{language}"
                    rule = "a template rephrases an instruction"
                    remedy = f"Write it with {INSTRUCTION} where the instruction goes."
                    yield Fault(where, "an empty template", rule, remedy)
    trained = {template for templates in task.paraphrases.values() for template in templates}
    for language, templates in task.eval_paraphrases.items():
        for template in sorted(trained & set(templates)):
            rule = "evaluation asks in words that training does not use"
            remedy = f"Take it out here or of {key}.paraphrases."
            yield Fault(f"{key}.eval_paraphrases.{language}", repr(template), rule, remedy)


def _judging(key: str, task: TaskConfig, asked: bool) -> Iterator[Fault]:
    """Metrics, format and post-processing: what would only show when answers are judged."""
    if task.metric != NO_METRIC:
        yield from _metric(f"{key}.metric", task.metric, asked)
        for name in task.metrics:
            yield from _metric(f"{key}.metrics", name, asked)
    elif task.metrics:
        rule = "beside metric: none they judge nothing, since no answers are generated"
        yield Fault(f"{key}.metrics", ", ".join(task.metrics), rule, f"Set {key}.metric.")
    try:
        re.compile(task.format)
    except re.error as error:
        yield Fault(f"{key}.format", task.format, f"no regular expression ({error})")
    if PostProcess.first_format in task.postprocess and not task.format:
        rule = "it takes the first stretch that has the task's format, and there is none"
        remedy = f"Set {key}.format to a regular expression."
        yield Fault(f"{key}.postprocess", PostProcess.first_format.value, rule, remedy)


def _metric(where: str, name: str, asked: bool) -> Iterator[Fault]:
    try:
        check_metric(name, where, asked)
    except ConfigFault as fault:
        yield from (replace(one, where=where) for one in fault.faults)


def _evaluation_files(key: str, task: TaskConfig, data: DataConfig) -> Iterator[Fault]:
    """They are read at phase ends; that they are missing must show before training."""
    for name, source in task.sources.items():
        here = f"{key}.sources.{name}"
        places = [(f"{here}.eval", source.eval, "leave the task out of evaluation")]
        for prompt_set, pattern in source.eval_sets.items():
            places.append((f"{here}.eval_sets.{prompt_set.value}", pattern, "have the set made"))
        for where, pattern, end in places:
            if not pattern or pattern.startswith(HUB):
                continue
            try:
                source_files(data, where, pattern)
            except DataFault as fault:
                remedy = f"Correct it, or set {where}='' to {end}."
                yield from (Fault(one.where, one.seen, one.rule, remedy) for one in fault.faults)
