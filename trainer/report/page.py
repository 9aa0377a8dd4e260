"""A run's report: one self-contained page that loads nothing and needs no script."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment

from data_modules.report.markup import page_environment, with_code
from trainer.diagnosis import Finding
from trainer.report import leaks, samples, scores, training, transfer
from trainer.report.cells import LEVELS, NOTHING, between, percent, with_interval
from trainer.report.headline import Headline, headline
from trainer.run_directory import INITIAL, write_text
from trainer.run_facts import RunFacts

#: id, title, what it is made by. In the order of the page.
_SECTIONS: tuple[tuple[str, str, Callable[[RunFacts], dict[str, Any]]], ...] = (
    ("scores", "Scores", scores.scores),
    ("crosstalk", "Crosstalk", leaks.crosstalk),
    ("soft", "Soft crosstalk", leaks.soft_crosstalk),
    ("format", "Format", scores.formats),
    ("forgetting", "Forgetting", transfer.forgotten),
    ("mixture", "Mixture", training.mixture),
    ("curves", "Curves", training.curves),
    ("conflict", "Gradients", transfer.conflict),
    ("samples", "Answers", samples.samples),
)


def write_page(
    facts: RunFacts, findings: Sequence[Finding] | None, unchecked: Mapping[str, str]
) -> Path:
    """Write ``report.html``; arguments as of :func:`render_report`."""
    path = facts.directory.report
    write_text(path, render_report(facts, findings, unchecked))
    return path


def render_report(
    facts: RunFacts, findings: Sequence[Finding] | None, unchecked: Mapping[str, str]
) -> str:
    """The whole page. What a model or a file says is escaped, cut, and its invisible characters named.

    Args:
        findings: of the diagnosis; None where there was none.
        unchecked: rule of the diagnosis -> why the run could not be checked by it.
    """
    sections = {key: made(facts) for key, _, made in _SECTIONS}
    gaps = [(title, sections[key]["gap"]) for key, title, _ in _SECTIONS if sections[key]["gap"]]
    if findings is None:
        gaps.insert(0, ("Findings", "the run was not diagnosed: `python launch/diagnose.py RUN`"))
    reasons: dict[str, list[str]] = {}
    for rule, why in unchecked.items():
        reasons.setdefault(why, []).append(f"`{rule}`")
    gaps += [("Diagnosis", f"{', '.join(rules)}: {why}") for why, rules in reasons.items()]
    choices = _choices(facts)
    if not choices:
        gaps.append(("Hard tasks", "no phase picks its tasks (`tasks: [auto_hard]`)"))
    return (
        run_environment()
        .get_template("report.html.jinja")
        .render(
            name=str(facts.config["run_name"]),
            facts=facts,
            nav=[(key, title) for key, title, _ in _SECTIONS],
            glance=_glance(facts),
            findings=None if findings is None else [_finding(one) for one in findings],
            gaps=[(title, with_code(why)) for title, why in gaps],
            plan=training.plan_rows(facts),
            choices=choices,
            config=(facts.directory.root / "config.yaml").read_text(encoding="utf-8"),
            environment=_environment_rows(facts.environment),
            **sections,
        )
    )


def run_environment() -> Environment:
    """Templates of reports about runs."""
    environment = page_environment("trainer.report")
    environment.globals |= {"levels": LEVELS, "NOTHING": NOTHING}
    environment.filters |= {"with_code": with_code}
    return environment


def _glance(facts: RunFacts) -> dict[str, Any]:
    """Tiles and one sentence."""
    if facts.last is None:
        return {"tiles": [], "words": f"The run has no evaluation yet.{_unfinished(facts)}"}
    now = headline(facts.last)
    first = facts.evaluations.get(INITIAL)
    before = headline(first) if first is not None and len(facts.evaluations) > 1 else None
    return {"tiles": _tiles(now, before), "words": _words(facts, now, before)}


def _tiles(now: Headline, before: Headline | None) -> list[dict[str, str]]:
    tiles = [
        ("mean of tasks", now.mean, "mean"),
        (f"worst task: {now.worst_task}", now.worst, "worst"),
        (f"best task: {now.best_task}", now.best, "best"),
        ("spread, best − worst", now.spread, "spread"),
        *(
            (f"crosstalk, {name}", rate, f"crosstalk/{name}")
            for name, rate in now.crosstalk.items()
        ),
        ("in format, as generated", now.in_format, "in_format"),
        ("in format, post-processed", now.in_format_processed, "in_format_processed"),
    ]
    found = [
        {"key": key, "value": f"{percent(one.value)} %", "interval": between(one), "label": label}
        for label, one, key in tiles
        if one is not None
    ]
    if now.general is not None:
        value = f"{percent(now.general.value)} %"
        if before is not None and before.general is not None:
            value = f"{percent(before.general.value)} → {value}"
        found.append(
            {
                "key": "general",
                "value": value,
                "interval": between(now.general),
                "label": "general ability, before → after",
            }
        )
    for key, label, after, early in (
        ("loss", "evaluation loss of tasks, nats", now.loss, before.loss if before else None),
        (
            "general_loss",
            "general loss, nats",
            now.general_loss,
            before.general_loss if before else None,
        ),
    ):
        if after is not None:
            value = f"{after:.3f}" if early is None else f"{early:.3f} → {after:.3f}"
            found.append({"key": key, "value": value, "interval": "", "label": label})
    return found


def _words(facts: RunFacts, now: Headline, before: Headline | None) -> str:
    column = list(facts.evaluations)[-1]
    after = "Before training" if column == INITIAL else f"After `{column}`"
    if now.mean is None:
        return (
            f"{after}: answers were not judged; evaluation losses tell what was learned."
            f"{_unfinished(facts)}"
        )
    words = (
        f"{after}, {len(now.scores)} specialised tasks score {with_interval(now.mean)} % in the mean, from "
        f"{percent(now.worst.value) if now.worst else NOTHING} ({now.worst_task}) to "
        f"{percent(now.best.value) if now.best else NOTHING} ({now.best_task})"
    )
    if before is not None and before.mean is not None:
        words += f"; before training the mean was {percent(before.mean.value)} %"
    if now.crosstalk:
        worst = max(now.crosstalk, key=lambda name: (now.crosstalk[name].value, name))
        words += f". Most answers leak on the prompt set `{worst}`: {with_interval(now.crosstalk[worst])} %"
    return f"{words}.{_unfinished(facts)}"


def _unfinished(facts: RunFacts) -> str:
    """How far a run is that has not trained all that is planned."""
    planned = max((one["last_step"] for one in facts.plan["phases"].values()), default=0)
    done = int(facts.steps[-1]["step"]) if facts.steps else 0
    later = "; more phases follow" if facts.plan.get("later") else ""
    if done >= planned and not later:
        return ""
    return f" The run has trained {done:,} of {planned:,} planned steps{later}."


def _finding(one: Finding) -> dict[str, Any]:
    return {
        "rule": one.rule,
        "title": with_code(one.title),
        "severity": one.severity.value,
        "evidence": [with_code(line) for line in one.evidence],
        "overrides": one.overrides,
        "because": one.because,
    }


def _choices(facts: RunFacts) -> list[dict[str, Any]]:
    """What phases that pick their tasks picked, and by which figures."""
    entries = facts.plan["phases"] | facts.plan.get("later", {})
    found = []
    for phase, entry in entries.items():
        choice = entry.get("auto_hard")
        if choice is None:
            continue
        picked = list(choice["picked"])
        found.append(
            {
                "phase": phase,
                "words": str(choice["words"]),
                "by": str(choice["by"]),
                "most": choice["most"],
                "source": str(choice["from"]),
                "figures": [
                    (task, f"{value:.3f}", task in picked)
                    for task, value in choice["figures"].items()
                ],
                "without": list(choice["without"].items()),
            }
        )
    return found


def _environment_rows(environment: dict[str, Any]) -> list[tuple[str, str]]:
    """The environment, one line a value; lists and tables as JSON would have them."""
    rows = []
    for key, value in environment.items():
        if isinstance(value, dict):
            text = ", ".join(f"{name} {version}" for name, version in value.items())
        elif isinstance(value, list):
            text = " ".join(str(one) for one in value)
        else:
            text = "none" if value is None else str(value)
        rows.append((key, text or json.dumps(value)))
    return rows
