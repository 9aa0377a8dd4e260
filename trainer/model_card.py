"""The README of an exported model: what it was trained on, how well it does, how to prompt it."""

from __future__ import annotations

from typing import Any

from trainer.config.schema import Config
from trainer.curriculum import Phase
from trainer.evaluation.results import Evaluation


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
        f"# {config.run_name}, after phase `{name}`",
        "",
        f"Multi-task supervised fine-tuning by polyphase. {start}",
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
            f"| {phase.name} | {phase.first_step}-{phase.last_step} "
            f"| {', '.join(phase.config.tasks)} | {phase.config.order.value} | {rows} "
            f"| {general / rows:.1%} | {phase.config.lr:g} | {config.adaptation.kind.value} |"
        )
    lines += ["", "## Tasks", "", "| task | tag | constraint | rows | loss | accuracy |"]
    lines += ["|---|---|---|---|---|---|"]
    bounded = phases[-1].config.boundary
    for task, settings in sorted(config.data.tasks.items()):
        result = (results or {}).get(task)
        loss = f"{result.loss:.3f}" if result else "-"
        accuracy = f"{result.accuracy:.1%}" if result and result.accuracy is not None else "-"
        count = str(result.rows) if result else "-"
        tag = settings.tag if bounded and config.boundary.tag else ""
        constraint = settings.constraint if bounded and config.boundary.constraint else ""
        lines.append(
            f"| {task} | {_code(tag)} | {_code(constraint)} | {count} | {loss} | {accuracy} |"
        )
    lines += [
        "",
        "`rows` are evaluation rows; `loss` is in nats per answer token; `accuracy` is greedy exact "
        "match. A prompt is `tag`, a space, the request, a line break, `constraint`, through the "
        "tokenizer's chat template.",
    ]
    return "\n".join(lines) + "\n"


def _code(text: str) -> str:
    return f"`{text}`".replace("|", "\\|") if text else ""
