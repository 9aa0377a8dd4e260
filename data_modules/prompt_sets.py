"""The four ways an evaluation asks: leaks hide on ordinary requests and show on others.

========== ==================================================================================
ordinary   the evaluation rows with the phase's tag and constraint
paraphrase instructions in words that training does not use
conflict   the same, carrying the surface cue of another task
no_tag     ordinary rows without tag and constraint
========== ==================================================================================

A source may bring the rows of a set itself (``SourceConfig.eval_sets``); paraphrases are made of the
task's ``eval_paraphrases`` otherwise, cues are those of the other tasks. General tasks get cues here too:
whether a cue draws a task into conversation is asked, not trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from data_modules.config import BoundaryConfig, DataConfig, PromptSet, TaskConfig
from data_modules.mixture import PromptConfig
from data_modules.prepare.evaluation_records import brings, read_eval_records, read_set_records
from data_modules.prepare.tokeniser import Wording
from data_modules.records import Record, Reject
from data_modules.wording import NO_BOUNDARY, Worded, foreign_cues

# Draws of cue and template are the same in every run: the sets are one fixed question paper.
_SEED = 0


def available(data: DataConfig, task: str, prompt_set: PromptSet) -> str:
    """Empty if the set can be asked of the task, else why not."""
    settings = data.tasks[task]
    if brings(settings, prompt_set):
        return ""
    if prompt_set is PromptSet.paraphrase and not any(settings.eval_paraphrases.values()):
        return "it has neither eval_sets.paraphrase nor eval_paraphrases"
    if prompt_set is PromptSet.conflict and not foreign_cues(task, data.tasks):
        return "it has no eval_sets.conflict, and no other task has cues unlike its own"
    return ""


def set_records(
    data: DataConfig, prompt_set: PromptSet
) -> tuple[dict[str, list[Record]], list[Reject]]:
    """The rows behind a prompt set, by task; tasks that it cannot be asked of are left out.

    Raises:
        DataFault: as ``read_eval_records``.
    """
    brought, rejects = read_set_records(data, prompt_set)
    made = {
        name: task
        for name, task in data.tasks.items()
        if name not in brought and not available(data, name, prompt_set)
    }
    others, more = read_eval_records(replace(data, tasks=made))
    both = brought | others
    return {name: both[name] for name in data.tasks if name in both}, rejects + more


def set_wording(
    data: DataConfig, boundary: BoundaryConfig, prompt_set: PromptSet, task: str
) -> Wording:
    """How the requests of one task are worded in a set; templates are those of :func:`set_tasks`."""
    prompts = PromptConfig()
    if not brings(data.tasks[task], prompt_set):
        if prompt_set is PromptSet.paraphrase:
            prompts = PromptConfig(paraphrase_share=1.0)
        elif prompt_set is PromptSet.conflict:
            prompts = PromptConfig(paraphrase_share=1.0, cue_share=1.0)
    texts = NO_BOUNDARY if prompt_set is PromptSet.no_tag else boundary
    return Wording(f"evaluation/{prompt_set.value}", texts, prompts, _SEED)


def not_worded(wording: Wording, prompt_set: PromptSet, worded: Worded) -> str:
    """Empty if a row got the words that make its set, else what it lacks."""
    prompts = wording.prompts
    if prompt_set is PromptSet.paraphrase and prompts.paraphrase_share and not worded.paraphrased:
        return "no template of eval_paraphrases fits its language and form"
    return ""


def set_tasks(tasks: Mapping[str, TaskConfig]) -> dict[str, TaskConfig]:
    """The tasks as evaluation words them: with the paraphrases kept for it, and cues for all."""
    return {
        name: replace(one, paraphrases=one.eval_paraphrases, general=False)
        for name, one in tasks.items()
    }
