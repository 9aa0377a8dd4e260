"""The four ways an evaluation asks: leaks hide on ordinary requests and show on others.

========== ==================================================================================
ordinary   the evaluation rows with the phase's tag and constraint
paraphrase instructions in words that training does not use
conflict   the same, carrying the surface cue of another task
no_tag     ordinary rows without tag and constraint
========== ==================================================================================

A source may bring the rows of a set itself (``SourceConfig.eval_sets``); paraphrases are made of the
task's ``eval_paraphrases`` otherwise, cues are those of the other tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from data_modules.config import BoundaryConfig, DataConfig, PromptSet, TaskConfig
from data_modules.mixture import PromptConfig
from data_modules.prepare.evaluation_records import read_eval_records
from data_modules.prepare.tokeniser import Wording
from data_modules.records import Record, Reject
from data_modules.wording import NO_BOUNDARY

# Draws of cue and template are the same in every run: the sets are one fixed question paper.
_SEED = 0


def available(data: DataConfig, task: str, prompt_set: PromptSet) -> str:
    """Empty if the set can be asked of the task, else why not."""
    settings = data.tasks[task]
    if any(prompt_set in source.eval_sets for source in settings.sources.values()):
        return ""
    if prompt_set is PromptSet.paraphrase and not settings.eval_paraphrases:
        return "it has neither eval_sets.paraphrase nor eval_paraphrases"
    if prompt_set is PromptSet.conflict and not any(
        one.cues for name, one in data.tasks.items() if name != task
    ):
        return "it has no eval_sets.conflict, and no other task has cues"
    return ""


def set_records(
    data: DataConfig, prompt_set: PromptSet
) -> tuple[dict[str, list[Record]], list[Reject]]:
    """The rows behind a prompt set, by task; tasks that it cannot be asked of are left out.

    Raises:
        DataFault: as ``read_eval_records``.
    """
    names = [one for one, settings in data.tasks.items() if settings.is_evaluated]
    names = [one for one in names if not available(data, one, prompt_set)]
    tasks = {name: _asking(data.tasks[name], prompt_set) for name in names}
    return read_eval_records(replace(data, tasks=tasks))


def _asking(task: TaskConfig, prompt_set: PromptSet) -> TaskConfig:
    """The task with the set's own rows as its evaluation rows, where it brings some."""
    if not any(prompt_set in source.eval_sets for source in task.sources.values()):
        return task
    sources = {
        name: replace(source, eval=source.eval_sets.get(prompt_set, ""))
        for name, source in task.sources.items()
    }
    return replace(task, sources=sources)


def set_wording(
    data: DataConfig, boundary: BoundaryConfig, prompt_set: PromptSet, task: str
) -> Wording:
    """How the requests of one task are worded in a set; templates are those of :func:`set_tasks`."""
    brings = any(prompt_set in one.eval_sets for one in data.tasks[task].sources.values())
    prompts = PromptConfig()
    if prompt_set is PromptSet.paraphrase and not brings:
        prompts = PromptConfig(paraphrase_share=1.0)
    if prompt_set is PromptSet.conflict and not brings:
        rephrase = 1.0 if data.tasks[task].eval_paraphrases else 0.0
        prompts = PromptConfig(paraphrase_share=rephrase, cue_share=1.0)
    texts = NO_BOUNDARY if prompt_set is PromptSet.no_tag else boundary
    return Wording(f"evaluation/{prompt_set.value}", texts, prompts, _SEED)


def set_tasks(tasks: Mapping[str, TaskConfig]) -> dict[str, TaskConfig]:
    """The tasks with the paraphrases kept for evaluation in the place of those of training."""
    return {name: replace(one, paraphrases=one.eval_paraphrases) for name, one in tasks.items()}
