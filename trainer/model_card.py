"""The README of an exported model: what it was trained on, how well it does, how to prompt it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from data_modules.config import BoundaryConfig, TaskConfig
from data_modules.masking import masked_text
from data_modules.report.visible import visible
from data_modules.wording import phase_boundary
from trainer.config.schema import Config
from trainer.curriculum import Phase
from trainer.evaluation.results import Evaluation
from trainer.prompt_template import texts_by_language


def model_card(
    config: Config, phases: list[Phase], plan: Any, results: Evaluation | None, start: str
) -> str:
    """Markdown; ``phases`` are those trained so far, ``results`` the evaluation of these weights."""
    name = phases[-1].name
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-generation",
        "---",
        f"# {_plain(config.run_name)}, after phase {_code(name)}",
        "",
        f"Multi-task supervised fine-tuning by polyphase. {_plain(masked_text(start))}",
        "",
        "## Phases",
        "",
        "| phase | steps | tasks | order | rows | general rows | lr | adaptation |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for phase in phases:
        tasks = plan["phases"][phase.name]["tasks"]
        rows = sum(use["rows"] for use in tasks.values())
        general = sum(use["rows"] for task, use in tasks.items() if config.data.tasks[task].general)
        lines.append(
            f"| {_plain(phase.name)} | {phase.first_step}-{phase.last_step} "
            f"| {_plain(', '.join(phase.config.tasks))} | {phase.config.order.value} | {rows} "
            f"| {general / rows:.1%} | {phase.config.lr:g} | {config.adaptation.kind.value} |"
        )
    for phase in phases:
        if "auto_hard" in plan["phases"][phase.name]:
            words = plan["phases"][phase.name]["auto_hard"]["words"]
            lines += ["", f"Tasks of {_code(phase.name)}: {_plain(words)}."]
    lines += ["", "## Tasks", "", "| task | rows | loss | metric | score |"]
    lines += ["|---|---|---|---|---|"]
    for task in sorted(config.data.tasks):
        result = results.tasks.get(task) if results else None
        if result is None:
            lines.append(f"| {_plain(task)} | - | - | - | - |")
            continue
        figure = result.score
        score = f"{figure.value:.1%} ({figure.low:.0%}-{figure.high:.0%})" if figure else "-"
        lines.append(
            f"| {_plain(task)} | {result.rows} | {result.loss:.3f} | {result.metric or '-'} | {score} |"
        )
    lines += [
        "",
        "`rows` are evaluation rows; `loss` is in nats per answer token; `score` is the metric of greedy "
        "answers, after the task's post-processing, with its 95 % interval.",
        *_crosstalk(results),
        "",
        *_prompts(config.data.tasks, phase_boundary(config.boundary, phases[-1].config)),
    ]
    return "\n".join(lines) + "\n"


def _crosstalk(results: Evaluation | None) -> list[str]:
    """One sentence per prompt set: how many answers behave like another task."""
    found = results.crosstalk if results else {}
    return [
        f"Crosstalk on the prompt set `{name}`: {one.rate.value:.1%} of the answers behave like "
        f"another task ({one.rate.low:.1%}-{one.rate.high:.1%})."
        for name, one in found.items()
    ]


def _prompts(tasks: Mapping[str, TaskConfig], boundary: BoundaryConfig) -> list[str]:
    """How a user asks for a task: the boundary texts by language, and the call that adds them."""
    texts = {name: texts_by_language(task, boundary) for name, task in sorted(tasks.items())}
    bounded = [name for name, pairs in texts.items() if any(map(any, pairs.values()))]
    lines = ["## Prompts", ""]
    if not bounded:
        return [*lines, "A request goes through the tokenizer's chat template as it is."]
    task = max(bounded, key=lambda name: len(texts[name]))
    language = next(filter(None, texts[task]), "")
    in_language = f", language={json.dumps(language)}" if language else ""
    lines += [
        "Say which task a request is, and in which language where the texts depend on it: the chat "
        "template then adds the texts that the model was trained with. Without `task` it adds nothing.",
        "",
        "```python",
        "from transformers import AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained(".")',
        'messages = [{"role": "user", "content": "..."}]',
        "inputs = tokenizer.apply_chat_template(",
        f"    messages, task={json.dumps(task)}{in_language},",
        '    add_generation_prompt=True, return_tensors="pt",',
        ")",
        "```",
        "",
        "The tag goes before the first user message with a space, the constraint behind every user "
        "message on a line of its own.",
        "",
        "| task | language | tag | constraint |",
        "|---|---|---|---|",
    ]
    for name, pairs in texts.items():
        for language in [*filter(None, pairs), ""]:  # the rest comes last
            tag, constraint = pairs[language]
            spoken = language or ("others" if len(pairs) > 1 else "any")
            lines.append(
                f"| {_plain(name)} | {_plain(spoken)} | {_code(tag)} | {_code(constraint)} |"
            )
    return lines


def _plain(text: str) -> str:
    """A name or message as Markdown shows it: no HTML, no cell of its own, nothing invisible."""
    shown = visible(text).replace("&", "&amp;").replace("<", "&lt;")
    return shown.replace("|", "\\|").replace("`", "\\`").replace("\n", " ")


def _code(text: str) -> str:
    """Inline code of a table cell; line breaks as they are written in Python."""
    text = visible(text)
    mark = "``" if "`" in text else "`"
    space = " " if "`" in text else ""
    shown = text.replace("\n", "\\n").replace("|", "\\|")
    return f"{mark}{space}{shown}{space}{mark}" if text else ""
